"""Walk a folder that nobody vouches for: any names, any links, any depth."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from jepascore_core.allowed import may_reach
from jepascore_core.datasets.keys import printable
from jepascore_core.errors import DatasetError


def walk(root: str) -> Iterator[tuple[str, int | None]]:
    """Everything below a folder that is not a folder: relative path with ``/``, and size in bytes.

    The size is None for what cannot be read as a file: pipes, devices, links that lead nowhere, or where
    ``JEPASCORE_DATA_ROOTS`` does not allow it. Linked folders are followed, each at most once within a class and never
    upwards, so that a link cannot make a loop.
    """
    above = _identities_above(root)
    seen = set(above)
    waiting: list[tuple[str, tuple[int, int]]] = [("", (0, 0))]
    while waiting:
        prefix, own = waiting.pop()
        if prefix.count("/") == 1:  # a class begins; the last one is done, since the stack goes deep first
            seen = above | {own}
        for entry in scan(f"{root}/{prefix}" if prefix else root):
            name = prefix + entry.name
            if entry.is_symlink() and not may_reach(entry.path):
                yield name, None
                continue
            try:
                status = entry.stat()
            except OSError:
                yield name, None
                continue
            identity = status.st_dev, status.st_ino
            if not stat.S_ISDIR(status.st_mode):
                yield name, status.st_size if stat.S_ISREG(status.st_mode) else None
            elif identity not in seen and not entry.name.startswith("."):
                waiting.append((name + "/", identity))
                if prefix:
                    seen.add(identity)


def _identities_above(root: str) -> set[tuple[int, int]]:
    """Device and inode of a folder and of every folder that holds it."""
    found = set()
    real = Path(os.path.realpath(root))
    for folder in (real, *real.parents):
        with contextlib.suppress(OSError):
            status = folder.stat()
            found.add((status.st_dev, status.st_ino))
    return found


def scan(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder, in order of their names."""
    shown = printable(folder)
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError as error:
        raise DatasetError(f"There is no folder {shown}.") from error
    except NotADirectoryError as error:
        raise DatasetError(f"{shown} is a file, not a folder.") from error
    except PermissionError as error:
        raise DatasetError(f"No permission to read the folder {shown}.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"The folder {shown[:200]} cannot be read: {reason}.") from error
