"""What is allowed: which files a request may reach, and whether it may change anything.

The settings are ``JEPASCORE_DATA_ROOTS`` and ``JEPASCORE_READ_ONLY``; ``SECURITY.md`` says what they guard against and
what not.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jepascore_core.errors import JepaScoreError, RunError

READ_ONLY = "JEPASCORE_READ_ONLY"
DATA_ROOTS = "JEPASCORE_DATA_ROOTS"
OUTSIDE = f"This path leads outside the folders that {DATA_ROOTS} allows."

_owners = 0  # blocks of ``as_owner`` that are open in this process


def read_only() -> bool:
    """Whether nobody may change anything here: ``JEPASCORE_READ_ONLY`` is set, and this is not the command line.

    Returns:
        True for any value of the setting but "" and ``0``, outside ``as_owner``.
    """
    return not _owners and os.environ.get(READ_ONLY, "") not in ("", "0")


def owner_only(deed: str) -> None:
    """Refuse to change anything for a visitor; whatever starts, stops, writes or downloads calls it first.

    Args:
        deed: What only the owner may do, such as ``start a run``.

    Raises:
        RunError: This is a read-only dashboard.
    """
    if read_only():
        raise RunError(f"This dashboard is read-only ({READ_ONLY}): only its owner can {deed}, on the command line.")


@contextlib.contextmanager
def as_owner() -> Iterator[None]:
    """Work as the owner of the machine for the length of a block, as the command line does: nothing is refused."""
    global _owners
    _owners += 1
    try:
        yield
    finally:
        _owners -= 1


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
