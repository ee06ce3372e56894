"""Parquet parts of a run: their columns, which of them can be read, and which images they hold."""

import hashlib
import itertools
import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jepascore_core.store import journal

FORMAT_VERSION = 1
Row = dict[str, Any]

_VERSION_KEY = b"jepascore_format_version"
SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("key", pa.string()),
        ("label", pa.int32()),
        ("class_name", pa.string()),
        ("width", pa.int32()),  # px
        ("height", pa.int32()),  # px
        ("jepa_score", pa.float64()),  # nats
        ("score_error", pa.float64()),  # nats
        ("singular_values", pa.list_(pa.float32())),  # D, descending
        ("sphere_term", pa.float64()),  # nats
        ("embedding", pa.list_(pa.float32())),  # D
        ("thumbnail", pa.binary()),  # JPEG
        ("error", pa.string()),
        ("view_scores", pa.list_(pa.float64())),  # T, nats; null for one view
    ],
    metadata={_VERSION_KEY: str(FORMAT_VERSION).encode()},
)

VANISHED = "is gone"
DAMAGED = "is damaged"
CLOSED = "cannot be opened"


@dataclass(frozen=True, slots=True)
class PartFile:
    """A part as it is: its absolute path, its size in bytes and the time of its writing in nanoseconds."""

    path: Path
    stamp: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a part's footer said, valid while the file keeps its size and time."""

    stamp: tuple[int, int]
    problem: str | None
    done: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at all parts of a folder found."""

    changed: int
    taken_s: float
    stamp: str = ""
    damaged: dict[str, str] = field(default_factory=dict)
    done: int = 0
    failed: int = 0


_verdicts: dict[Path, _Verdict] = {}
_looks: dict[Path, _Look] = {}
_LISTINGS = 20  # a folder whose parts are replaced again and again while we look is looked at no longer
_TRUSTED_S = 1.0  # a look holds that long if nothing in the folder is made, renamed or removed: a page takes many
_TICK_NS = 50_000_000  # and not at all while a part might have come within the clock's tick of the last change


def part_files(folder: Path) -> list[Path]:
    """Every part of a run, whole or damaged, in the order of writing.

    Each row is in one of them, also while the run is compacted: a part that another has taken the place of is left out.

    Args:
        folder: The run's folder.

    Returns:
        Absolute paths; empty when the folder is gone.
    """
    folder = folder.absolute()
    names, before = set[str](), b""
    for _ in range(_LISTINGS):
        before = journal.read_bytes(folder)
        try:
            names = {entry.name for entry in os.scandir(folder) if journal.is_part(entry.name)}
        except OSError:
            return []
        if journal.read_bytes(folder) == before:  # else parts came and went while we listed them
            break
    told = journal.parse(before)
    if told and told.part and (folder / told.part).exists():
        names = (names | {told.part}) - told.supersedes  # it may have come since, and the others gone
    return [folder / name for name in sorted(names)]


def last_number(folder: Path) -> int:
    """Number of the part that was written last, 0 before there is one.

    Args:
        folder: The run's folder.

    Returns:
        The largest number.
    """
    return max((int(path.stem.split("-")[1]) for path in part_files(folder)), default=0)


def readable_parts(folder: Path) -> list[Path]:
    """The parts that are whole; a part that is not is passed over.

    Args:
        folder: The run's folder.

    Returns:
        Absolute paths.
    """
    return [path for path, problem in _judged(folder).items() if problem is None]


def _judged(folder: Path) -> dict[Path, str | None]:
    """What is wrong with each part; listed anew when one vanishes meanwhile, for its rows may be in another then."""
    judged: dict[Path, str | None] = {}
    for _ in range(_LISTINGS):
        judged = {path: problem_of(path) for path in part_files(folder)}
        if VANISHED not in judged.values():
            break
    return judged


def identified(folder: Path) -> list[PartFile]:
    """The parts that are whole, and what tells each from any other of its name.

    Args:
        folder: The run's folder.

    Returns:
        In the order of writing.
    """
    return [PartFile(path, _verdicts[path].stamp) for path in readable_parts(folder)]


def first_rows(folder: Path, most: int | None = None) -> dict[Path, int]:
    """The parts that hold the first rows of a run.

    Args:
        folder: The run's folder.
        most: Rows, with a score or without; None takes all.

    Returns:
        How many of them each part holds, in the order of writing.
    """
    found: dict[Path, int] = {}
    for path in readable_parts(folder):
        rows = _verdicts[path].done + _verdicts[path].failed
        found[path] = rows if most is None else min(rows, most - sum(found.values()))
        if most is not None and sum(found.values()) >= most:
            break
    return found


def stamp(folder: Path) -> str:
    """What changes when a run's parts do.

    Args:
        folder: The run's folder.

    Returns:
        A short text; empty when the folder is gone.
    """
    return _look(folder).stamp


def stamps(folder: Path) -> list[tuple[str, int, int]]:
    """The parts that are whole, as they are this instant.

    Args:
        folder: The run's folder.

    Returns:
        Name, bytes and time of each, ns.
    """
    return [(path.name, *_verdicts[path].stamp) for path, problem in _judged(folder).items() if problem is None]


def damaged_parts(folder: Path) -> dict[str, str]:
    """The parts that cannot be read.

    Args:
        folder: The run's folder.

    Returns:
        What is wrong with each, by file name.
    """
    return dict(_look(folder).damaged)


def problem_of(path: Path, *, thorough: bool = False) -> str | None:
    """What is wrong with a part; its footer is read once, and remembered while the file stays as it is.

    Args:
        path: The part.
        thorough: Read every page and check its checksum too.

    Returns:
        What is wrong in a few words, or None.
    """
    try:
        status = path.stat()
    except OSError:
        return VANISHED
    if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
        return DAMAGED
    return _verdict(path, (status.st_size, status.st_mtime_ns), thorough).problem


def count_rows(folder: Path) -> tuple[int, int]:
    """Rows that are stored, from the footers alone.

    Args:
        folder: The run's folder.

    Returns:
        Images with a score, and images with an error.
    """
    seen = _look(folder)
    return seen.done, seen.failed


def aside_name(path: Path) -> Path:
    """Where a part goes that is not read any more but kept, beside others of its name.

    Args:
        path: The part.

    Returns:
        A path that is free, ``<name>.damaged`` or ``<name>.2.damaged`` and so on.
    """
    numbers = itertools.count(2)
    aside = path.with_name(f"{path.name}.damaged")
    while aside.exists():
        aside = path.with_name(f"{path.name}.{next(numbers)}.damaged")
    return aside


def stored_scores(folder: Path) -> dict[str, float | None]:
    """Which images are stored.

    Args:
        folder: The run's folder.

    Returns:
        The image's score, or None where it has an error instead, by key.
    """
    stored: dict[str, float | None] = {}
    for path in readable_parts(folder):
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read(columns=["key", "jepa_score"])
        except (OSError, pa.ArrowException):
            problem_of(path, thorough=True)  # remember that it is damaged
            continue
        stored.update(zip(table["key"].to_pylist(), table["jepa_score"].to_pylist(), strict=True))
    return stored


def _look(folder: Path) -> _Look:
    """Look at every part of a folder, or remember what was seen a moment ago."""
    folder = folder.absolute()
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return _Look(0, 0.0)
    known = _looks.get(folder)
    now = time.monotonic()
    if known is not None and known.changed == changed and now - known.taken_s < _TRUSTED_S:
        return known
    judged = _judged(folder)
    whole = [_verdicts[path] for path, problem in judged.items() if problem is None]
    names = [(path.name, _verdicts[path].stamp) for path, problem in judged.items() if problem is None]
    seen = _Look(
        changed,
        now if abs(time.time_ns() - changed) > _TICK_NS else -_TRUSTED_S,
        hashlib.blake2b(repr(names).encode(), digest_size=12).hexdigest(),
        {path.name: problem for path, problem in judged.items() if problem and problem != VANISHED},
        sum(verdict.done for verdict in whole),
        sum(verdict.failed for verdict in whole),
    )
    _looks[folder] = seen
    return seen


def _verdict(path: Path, stamp: tuple[int, int], thorough: bool) -> _Verdict:
    """The remembered verdict on a part, or a new one."""
    known = _verdicts.get(path)
    if known is None or known.stamp != stamp or (thorough and known.problem is None):
        known = _examine(path, stamp, thorough)
        _verdicts[path] = known
        _looks.pop(path.parent, None)
    return known


def _examine(path: Path, stamp: tuple[int, int], thorough: bool) -> _Verdict:
    """What is wrong with a part and how many rows it has, from its footer or from all its bytes."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=thorough) as file:
            version = (file.schema_arrow.metadata or {}).get(_VERSION_KEY, b"").decode("ascii", "replace")
            if version != str(FORMAT_VERSION):
                return _Verdict(stamp, f"has format {version or 'unknown'}, not {FORMAT_VERSION}")
            if not file.schema_arrow.equals(SCHEMA):
                return _Verdict(stamp, "has other columns")
            groups = range(file.num_row_groups)
            if thorough:
                for group in groups:
                    file.read_row_group(group)
            leaf = SCHEMA.get_field_index("jepa_score")  # columns before it are flat: leaf number = field number
            failed = sum(file.metadata.row_group(group).column(leaf).statistics.null_count for group in groups)
            return _Verdict(stamp, None, file.metadata.num_rows - failed, failed)
    except FileNotFoundError:
        return _Verdict(stamp, VANISHED)
    except PermissionError:
        return _Verdict(stamp, CLOSED)
    except (OSError, pa.ArrowException, AttributeError):  # AttributeError: statistics that say nothing
        return _Verdict(stamp, DAMAGED)
