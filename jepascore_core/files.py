"""Files that are whole or absent: written aside in the same folder, then renamed."""

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

TEMPORARY = ".tmp"  # suffix of a file that is still being written; its name also begins with a dot

_Read = TypeVar("_Read")

_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system
_MOST_REMEMBERED = 10_000  # files
_remembered: dict[tuple[Path, Callable[[Path], Any]], tuple[tuple[int, int, int], Any]] = {}


@contextlib.contextmanager
def written_aside(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it over ``path`` when the block succeeds.

    Args:
        path: File to make or replace.
        durable: Also force the bytes to disk before the rename, so that a power cut leaves either
            the old or the new file. Costs milliseconds.

    Yields:
        The temporary path; the block writes and closes it. It is gone if the block fails.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        yield aside
        if durable:
            sync(aside)
        aside.replace(path)
        if durable:
            sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def remove_temporary_files(folder: Path) -> None:
    """Remove what dead writers left in a folder; only for one who holds the folder's lock."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_json(path: Path, data: dict[str, Any], *, durable: bool = True) -> None:
    """Replace a JSON file in one step; a reader sees the old or the new one."""
    with written_aside(path, durable=durable) as aside:
        aside.write_text(json.dumps(data, indent=1, allow_nan=False), encoding="utf-8")


def remembered(path: Path, read: Callable[[Path], _Read]) -> _Read:
    """What was read from a file, until the file is another one: a page asks for hundreds of them at each click.

    Args:
        path: The file.
        read: Reads it; what it gives is shared, and never changed.

    Returns:
        What it gives.

    Raises:
        FileNotFoundError: There is no such file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise
    except OSError:
        return read(path)  # which says why
    state = status.st_mtime_ns, status.st_size, status.st_ino
    known = _remembered.get((path, read))
    if known is not None and known[0] == state:
        return known[1]
    found = read(path)
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:  # else it may change again within a tick of the clock
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[path, read] = state, found
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read or does not hold a JSON object; the message says which.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not valid JSON.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} does not hold a JSON object.")
    return data


def storable(text: str) -> str:
    r"""Text that UTF-8 can hold: lone surrogates, as in undecodable file names, become escapes.

    Args:
        text: Any text.

    Returns:
        The same text, or one with ``\udcff`` spelt out.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def expanded(path: str | Path) -> Path:
    """A path with ``~`` for the home folder where there is one of that name; never raises, whatever the text.

    Args:
        path: Any path, such as ``~/birds`` or ``~nobody``.

    Returns:
        The path, as it is where nobody is called so or no file system takes it.
    """
    try:
        return Path(os.path.expanduser(path))  # noqa: PTH111 - takes ~nobody as it is
    except ValueError:  # null bytes, or what is not Unicode, behind the ~
        return Path(path)


def why(error: OSError) -> str:
    """What the system said, without the path and the details that libraries add.

    Args:
        error: From the standard library or from Arrow.

    Returns:
        Such as ``No space left on device``.
    """
    return os.strerror(error.errno) if error.errno else str(error)


def sync(path: Path) -> None:
    """Force a file, or a folder's list of names, to disk where the system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
