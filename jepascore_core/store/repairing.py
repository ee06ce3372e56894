"""Mend a run: what is damaged is set aside, what is whole stays, and what is missing can be scored again."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jepascore_core.allowed import owner_only
from jepascore_core.errors import RunError
from jepascore_core.files import TEMPORARY, remove_temporary_files, write_json
from jepascore_core.store import parts
from jepascore_core.store.part_writer import write_tables
from jepascore_core.store.progress import FILE_NAME as PROGRESS_FILE
from jepascore_core.store.progress import Progress, read_progress
from jepascore_core.store.run_folder import changing, finish_compaction
from jepascore_core.store.runs import read_run
from jepascore_core.store.setting_aside import keep_as, set_damaged_aside
from jepascore_core.store.verifying import Verified, claims_done, verify
from jepascore_core.text import plural


def repair(folder: Path, planned_keys: frozenset[str] | None = None) -> list[str]:
    """Mend what ``verify`` finds wrong, as far as that can be done without scoring.

    Damaged parts are renamed to ``.damaged``; row groups of theirs that are whole are kept as a part. Rows that are
    unsound or there twice are left out of their parts, which are kept as ``.damaged`` too. Nothing that was scored is
    deleted. A process that is killed meanwhile loses nothing: each step is one rename.

    Args:
        folder: The run's folder.
        planned_keys: As ``verify`` takes it: rows of other keys are left out.

    Returns:
        What was done, a sentence each.

    Raises:
        RunError: Another process holds the run, it was made by another version, the folder cannot be written, or this
            is a read-only dashboard.
    """
    owner_only("repair runs")
    version = read_run(folder).meta.get("format_version", parts.FORMAT_VERSION)
    if version != parts.FORMAT_VERSION:
        raise RunError(f"{folder.name} has format {version!r}; repair it with the version that made it.")
    with changing(folder, "repair"):
        deeds = [*_remove_temporary(folder), *_finish(folder), *set_damaged_aside(folder, thorough=True)]
        found = verify(folder, planned_keys)
        deeds += [_leave_out(folder / name, rows) for name, rows in found.unsound.items()]
        return [*deeds, *_tell_progress(folder, found)]


def _remove_temporary(folder: Path) -> list[str]:
    """Remove what dead writers left half written."""
    left = len(list(folder.glob(f".*{TEMPORARY}")))
    remove_temporary_files(folder)
    return [f"Removed {plural(left, 'file')} half written."] if left else []


def _finish(folder: Path) -> list[str]:
    """Finish a compaction that died."""
    return ["Finished a compaction that was interrupted."] if finish_compaction(folder) else []


def _leave_out(path: Path, rows: NDArray[np.int64]) -> str:
    """Write a part without some of its rows; as it was, it is kept aside."""
    aside = parts.aside_name(path)
    keep_as(path, aside)
    if not write_tables(path, _without(path, rows)):
        path.unlink()
    return f"Left {plural(len(rows), 'row')} out of {path.name}, which is kept as {aside.name}."


def _without(path: Path, rows: NDArray[np.int64]) -> Iterator[pa.Table]:
    """The row groups of a part without some of its rows."""
    first = 0
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number)
            yield table.filter(pa.array(~np.isin(np.arange(first, first + len(table)), rows)))
            first += len(table)


def _tell_progress(folder: Path, before: Verified) -> list[str]:
    """Make ``progress.json`` from the parts where it cannot be read, or counts images that are not there."""
    done, failed = parts.count_rows(folder)
    known = _known(folder)
    if known is not None and not (claims_done(folder) and done + failed < before.planned):
        return []
    missing = max(0, before.planned - done - failed)
    state, words = "done" if before.planned and not missing else "interrupted", ""
    if missing:
        words = f"{plural(missing, 'image')} to be scored again."
    known = known or Progress(state)
    told = replace(
        known, state=state, done=done, failed=failed, planned=before.planned or done + failed, message=words,
        heartbeat=time.time(), pid=None, process=None,
    )  # fmt: skip
    write_json(folder / PROGRESS_FILE, asdict(told))
    return [f"Wrote {PROGRESS_FILE} from the parts: {plural(done, 'score')}, {plural(failed, 'error')}."]


def _known(folder: Path) -> Progress | None:
    """What ``progress.json`` says, or None."""
    try:
        return read_progress(folder)
    except (FileNotFoundError, ValueError):
        return None
