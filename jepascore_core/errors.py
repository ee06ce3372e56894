"""Errors whose message is one clear sentence that a person can act on.

The command line prints the message and exits non-zero; a page shows it; neither shows a traceback.
"""


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
