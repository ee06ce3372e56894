"""Where files are packed into: a zip or a folder, whole or absent."""

import contextlib
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from jepascore_core.errors import RunError
from jepascore_core.files import TEMPORARY, why, written_aside

Add = Callable[[str, bytes | Path], None]  # a relative path with /, and the content or a file that holds it


@contextlib.contextmanager
def archive(path: Path) -> Iterator[Add]:
    """Make a zip, where the name ends in ``.zip``, or else a folder; it appears when the block succeeds.

    Args:
        path: The zip, replaced if it exists; or the folder, which must be absent or empty.

    Yields:
        The function that adds a file.

    Raises:
        RunError: It cannot be written, or the folder holds something.
    """
    try:
        with (_zip if path.suffix.lower() == ".zip" else _folder)(path) as add:
            yield add
    except OSError as error:
        raise RunError(f"Cannot write {path} ({why(error)}).") from error


@contextlib.contextmanager
def _zip(path: Path) -> Iterator[Add]:
    """A zip; images are stored as they are, since they are compressed already."""
    with written_aside(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED, strict_timestamps=False) as file:

        def add(name: str, content: bytes | Path) -> None:
            if isinstance(content, Path):
                file.write(content, name, zipfile.ZIP_DEFLATED)
            else:
                file.writestr(name, content)

        yield add


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[Add]:
    """A folder."""
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise RunError(f"Cannot write {path}: it exists already.")
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY}")
    aside.mkdir()

    def add(name: str, content: bytes | Path) -> None:
        target = aside / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content)

    try:
        yield add
        if path.is_dir():
            path.rmdir()
        aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
