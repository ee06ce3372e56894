"""Make few large parts of many small ones, so that a run opens faster. May be killed at any instant."""

import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jepascore_core.allowed import owner_only
from jepascore_core.errors import RunError
from jepascore_core.files import remove_temporary_files, written_aside
from jepascore_core.store import journal, parts
from jepascore_core.store.part_writer import write_groups
from jepascore_core.store.progress import read_progress
from jepascore_core.store.run_folder import changing, finish_compaction

PART_ROWS = 65_536  # about a gigabyte at D = 1280 with thumbnails: sixteen parts for a million images
_SUFFIX = re.compile(r"-c[0-9a-f]{8}$")
_VERIFY = "run `verify --repair` first."


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction came to.

    Attributes:
        before: Parts that were there.
        after: Parts that are there now.
        rows: Rows of them all.
    """

    before: int
    after: int
    rows: int


def compact(
    folder: Path,
    *,
    part_rows: int = PART_ROWS,
    on_progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Compacted:
    """Make few large parts of a run's many small ones.

    Neighbouring parts are joined up to ``part_rows``; rows keep their order, because a run begins with a stratified
    sample, and so do the row groups their size, because a gallery reads those of the images that it shows. For each new
    part:

    1. it is written aside, and every page of it is read again;
    2. the journal names it, and the parts whose rows it holds;
    3. it is renamed to its name: from this instant on readers take it in place of the others;
    4. these are removed;
    5. the journal is emptied.

    Killed before 3, a compaction has changed nothing; killed later, it is finished by whoever writes in the run next.
    A reader that listed the parts before 3 and opens them after 4 lists them again.

    Rows are not sorted by score, so that the statistics of a row group do not tell where the extremes are: they are
    found by the ranking, which takes one pass over two narrow columns.

    Args:
        folder: The run's folder.
        part_rows: Most rows of a new part.
        on_progress: Told after each new part how many of the old ones are done with, and how many there are.
        stop: Set it to end after the present part; what is done stays done.

    Returns:
        How many parts there were and are.

    Raises:
        RunError: The run is at work, holds a damaged part, or cannot be written; or this is a read-only dashboard.
    """
    owner_only("compact runs")
    _refuse_active(folder)
    with changing(folder, "compact"):
        remove_temporary_files(folder)
        finish_compaction(folder)
        damaged = parts.damaged_parts(folder)
        if damaged:
            raise RunError(f"{next(iter(damaged))} of {folder.name} {next(iter(damaged.values()))}; {_VERIFY}")
        before, done = parts.part_files(folder), 0
        for group in _groups(before, part_rows):
            if stop is not None and stop.is_set():
                break
            _join(folder, group)
            done += len(group)
            if on_progress is not None:
                on_progress(done, len(before))
        return Compacted(len(before), len(parts.part_files(folder)), sum(parts.count_rows(folder)))


def _refuse_active(folder: Path) -> None:
    """Refuse a run that a process works on, also one on another machine, whose lock we may not see."""
    try:
        active = read_progress(folder).active
    except (FileNotFoundError, ValueError):
        return
    if active:
        raise RunError(f"Another process is at work on {folder.name}; compact it when that has ended.")


def _groups(paths: list[Path], part_rows: int) -> Iterator[list[Path]]:
    """Neighbouring parts that fit into one, at least two together."""
    group: list[Path] = []
    rows = 0
    for path in paths:
        held = pq.read_metadata(path).num_rows
        if group and rows + held > part_rows:
            yield from [group] * (len(group) > 1)
            group, rows = [], 0
        group.append(path)
        rows += held
    yield from [group] * (len(group) > 1)


def _join(folder: Path, group: list[Path]) -> None:
    """Put one part in the place of several."""
    # the name sorts just before that of the first, which keeps the order of rows
    stem = _SUFFIX.sub("", group[0].stem)
    path = folder / f"{stem}-c{uuid.uuid4().hex[:8]}.parquet"
    rows = sum(pq.read_metadata(old).num_rows for old in group)
    with written_aside(path) as aside:
        written = write_groups(aside, _tables(group))
        if written != rows or parts.problem_of(aside, thorough=True) is not None:
            raise RunError(f"A new part of {folder.name} could not be read back; the old ones stay.")
        journal.write(folder, journal.Journal(path.name, frozenset(old.name for old in group)))
    for old in group:
        old.unlink()
    journal.write(folder, journal.Journal())


def _tables(group: list[Path]) -> Iterator[pa.Table]:
    """The rows of some parts, a row group at a time, their checksums compared."""
    for path in group:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for number in range(file.num_row_groups):
                    yield file.read_row_group(number)
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"{path.name} is damaged; {_VERIFY}") from error
