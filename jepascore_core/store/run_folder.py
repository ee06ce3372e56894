"""Make a run's folder fit for writing."""

import contextlib
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from jepascore_core.errors import RunError
from jepascore_core.files import remove_temporary_files, why, write_json
from jepascore_core.locks import Busy, hold_briefly
from jepascore_core.store import journal, parts
from jepascore_core.store.runs import FILE_NAME, read_run
from jepascore_core.store.setting_aside import set_damaged_aside
from jepascore_core.store.staging import remove_staging


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
        remove_staging(folder)
        finish_compaction(folder)
        stored = parts.stored_scores(folder)  # finds damage in what it reads
        if set_damaged_aside(folder):
            stored = parts.stored_scores(folder)  # what was whole of them stays
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


def begun(folder: Path) -> float:
    """When a run began, seconds since 1970; infinity where it does not say."""
    meta = read_run(folder).meta
    try:
        moment = datetime.fromisoformat(meta["created"])
        return moment.timestamp() + (0.0 if moment.microsecond else 1.0)  # older runs say it in whole seconds
    except (KeyError, TypeError, ValueError, OverflowError):
        return math.inf


def note_rewritten(folder: Path, count: int) -> None:
    """Write down that images were written anew while a run read them; only for one who holds the run's lock.

    Args:
        folder: The run's folder.
        count: How many more.
    """
    meta = read_run(folder).meta
    if meta and count:
        dataset = meta["dataset"]
        known = dataset.get("rewritten")
        dataset["rewritten"] = count + (known if type(known) is int else 0)
        write_json(folder / FILE_NAME, meta)


@contextlib.contextmanager
def changing(folder: Path, deed: str) -> Iterator[None]:
    """Hold a run's lock for as long as its files are changed.

    Args:
        folder: The run's folder.
        deed: What is done, such as ``repair``.

    Yields:
        Nothing; nobody else writes in the folder within the block.

    Raises:
        RunError: Another process holds the run, or the folder cannot be written.
    """
    try:
        with hold_briefly(folder / ".lock", timeout_s=0.0):
            yield
    except Busy as error:
        raise RunError(f"Another process is at work on {folder.name}; {deed} it when that has ended.") from error
    except OSError as error:
        raise RunError(f"Cannot write in {folder.name} ({why(error)}).") from error


def finish_compaction(folder: Path) -> int:
    """Finish what a compaction that died had begun; only for one who holds the run's lock.

    Where the large part is there and whole, the parts that it holds are removed; where it is damaged, it is set aside,
    and they count again.

    Args:
        folder: The run's folder.

    Returns:
        Parts that were left over; 0 where no compaction died.

    Raises:
        OSError: A part cannot be removed; nothing reads it.
    """
    data = journal.read_bytes(folder)
    told = journal.parse(data)
    if told == journal.Journal():
        return 0
    left = [folder / name for name in sorted(told.supersedes) if (folder / name).exists()] if told else []
    if told and (folder / told.part).exists():
        if parts.problem_of(folder / told.part, thorough=True) is None:
            for path in left:
                path.unlink(missing_ok=True)
        else:
            (folder / told.part).rename(parts.aside_name(folder / told.part))
    journal.write(folder, journal.Journal())
    return max(1, len(left))
