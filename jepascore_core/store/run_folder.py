"""Make a run's folder fit for writing."""

from pathlib import Path
from typing import Any

from jepascore_core.errors import RunError
from jepascore_core.files import remove_temporary_files, write_json
from jepascore_core.store import parts
from jepascore_core.store.runs import FILE_NAME, read_run


def prepare(folder: Path, meta: dict[str, Any]) -> dict[str, float | None]:
    """Make a run's folder fit for writing, heal what a crash or a bad disk left, and say which images it has.

    Args:
        folder: The run's folder; the caller holds its lock.
        meta: What its ``run.json`` shall hold, unless it holds something sound.

    Returns:
        The image's score, or None where it has an error instead, by key.

    Raises:
        RunError: The folder belongs to another format, or cannot be written.
    """
    try:
        remove_temporary_files(folder)
        stored = parts.stored_scores(folder)  # finds damage in what it reads
        parts.set_damaged_aside(folder)
        foreign = parts.damaged_parts(folder)
        if foreign:
            name, problem = next(iter(foreign.items()))
            raise RunError(f"{name} in {folder.name} {problem}; score into another runs folder.")
        if read_run(folder).problem is not None:
            write_json(folder / FILE_NAME, meta)
        return stored
    except OSError as error:
        raise RunError(f"Cannot write in {folder} ({error.strerror}).") from error


def make_folder(folder: Path) -> Path:
    """Make the run's folder.

    Args:
        folder: Where it shall be; its parent exists.

    Returns:
        The same path.

    Raises:
        RunError: It cannot be made.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write in {folder.parent} ({error.strerror}).") from error
    return folder
