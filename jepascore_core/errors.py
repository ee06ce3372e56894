"""Errors whose message is one clear sentence that a person can act on.

The command line prints the message and exits non-zero; a page shows it; neither shows a traceback.
"""

import errno

SHORT_OF_MEMORY = (
    "Memory ran out: close other programs, or choose a smaller encoder or batch; "
    "what is scored is kept, and the same request resumes."
)
_NO_MEMORY = (  # what libraries say, in lower case; some say no more than that a library cannot be mapped
    "out of memory", "cannot allocate memory", "can't allocate memory", "can't start new thread", "bad_alloc",
    "failed to map segment",
)  # fmt: skip


class JepaScoreError(Exception):
    """Base of every error that we raise on purpose."""


class EncoderError(JepaScoreError):
    """An encoder is unknown, its weights are out of reach, or they do not fit."""


class DatasetError(JepaScoreError):
    """A dataset is unknown, missing, gated, offline, empty or damaged."""


class DatasetGone(DatasetError):
    """The images of a dataset are not where they were listed, all of them: a disk or a file was taken away."""


class ImageError(JepaScoreError):
    """One image cannot be read; the run records the reason and goes on."""


class RunError(JepaScoreError):
    """A run folder is missing, damaged or in use, or a run cannot start."""


class ImportedFileError(JepaScoreError):
    """A file of results cannot be imported: it is damaged, hostile, ambiguous, or holds no score."""


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, means that the system has no more memory for this process.

    Args:
        error: Any error.

    Returns:
        True for ``MemoryError`` and for what libraries raise instead.
    """
    while error is not None:
        text = str(error).lower()
        told = isinstance(error, RuntimeError | OSError | ImportError | SystemError)
        if isinstance(error, MemoryError) or (told and any(words in text for words in _NO_MEMORY)):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False


def in_words(error: BaseException) -> str:
    """What a person should read of an error.

    Args:
        error: Any error.

    Returns:
        The message of an error that we raise on purpose; a sentence where memory ran out; else its class and message.
    """
    if isinstance(error, JepaScoreError):
        return str(error)
    return SHORT_OF_MEMORY if lacks_memory(error) else f"{type(error).__name__}: {error}"
