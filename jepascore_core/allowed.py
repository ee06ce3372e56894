"""What a request may reach: files below the folders of ``JEPASCORE_DATA_ROOTS``, where it is set.

``SECURITY.md`` says what this guards against, and what it does not.
"""

import os
from pathlib import Path

from jepascore_core.errors import JepaScoreError

DATA_ROOTS = "JEPASCORE_DATA_ROOTS"
OUTSIDE = f"This path leads outside the folders that {DATA_ROOTS} allows."


def data_roots() -> tuple[str, ...] | None:
    """The folders below which files may be named, as ``JEPASCORE_DATA_ROOTS`` lists them.

    They are separated by ``:`` (``;`` on Windows), may begin with ``~``, and are resolved, links and all.

    Returns:
        Absolute paths, none where the setting holds separators only; None where it is not set, which allows any file.
    """
    text = os.environ.get(DATA_ROOTS, "")
    if not text:
        return None
    return tuple(_real(root) for root in map(str.strip, text.split(os.pathsep)) if root)


def may_reach(path: str | Path) -> bool:
    """Whether a path may be read; what lies there, and whether anything does, is not told.

    Args:
        path: Any path, resolved with its links and ``..``.

    Returns:
        True where no folders are set, or the path is one of them or lies below one.
    """
    roots = data_roots()
    if roots is None:
        return True
    try:
        real = _real(path)
        return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
    except (OSError, ValueError):  # names that no file system takes
        return False


def check_path(path: str | Path, error: type[JepaScoreError]) -> None:
    """Refuse a path that may not be read.

    Args:
        path: Any path that somebody named.
        error: What to raise.

    Raises:
        JepaScoreError: It is not below one of the folders; the sentence names the setting and not the path.
    """
    if not may_reach(path):
        raise error(OUTSIDE)


def _real(path: str | Path) -> str:
    return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111 - never raises, for any text after the ~
