"""Check a run wholly: its files, every page of its parts, every row. Nothing is changed; ``repairing`` mends."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jepascore_core.files import TEMPORARY
from jepascore_core.locks import is_held
from jepascore_core.store import journal, parts
from jepascore_core.store.progress import FILE_NAME as PROGRESS_FILE
from jepascore_core.store.progress import read_progress
from jepascore_core.store.row_faults import COLUMNS, Expected, expected_of, faults
from jepascore_core.store.runs import FILE_NAME, Run, about_dataset, is_newborn, read_run, rewritten
from jepascore_core.text import count, plural

_ROWS = 4096  # looked at together: 40 MB at D = 1280
_TWICE = "a key that another row has"
_NUMBER_TWICE = "a number in the dataset that another row has"
_AGAIN = (
    "It cannot be made from the rows: ask for the same run again (`score` with the same options, or `import` of the "
    f"same file), which writes {FILE_NAME} anew in this folder and keeps what is stored."
)
_MOST = 1_000_000  # for D and T, far beyond what there is: garbage must not fill the memory
_NOT_PLANNED = "a key that the dataset has no image of"

Places = dict[str, NDArray[np.int64]]  # numbers of rows within each part, by file name


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is wrong with a run.

    Attributes:
        subject: What it is wrong with: ``run.json``, ``progress.json``, the name of a part, ``rows``, ``files``.
        words: One sentence, which names the file.
        mendable: ``--repair`` mends it.
    """

    subject: str
    words: str
    mendable: bool = True


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of a run found.

    Attributes:
        run: The run.
        planned: Images in the run; 0 where ``run.json`` cannot be read.
        done: Sound rows with a score.
        failed: Sound rows with an error instead.
        right: What is as it should be, a sentence each.
        wrong: What is not.
        notes: What a person may want to know, a sentence each.
        unsound: Rows that ``repair`` leaves out.
        damaged: What is wrong with each part that cannot be read, by file name.
    """

    run: Run
    planned: int
    done: int
    failed: int
    right: tuple[str, ...]
    wrong: tuple[Wrong, ...]
    notes: tuple[str, ...]
    unsound: Places = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong


@dataclass
class _Found:
    """What is gathered on the way."""

    right: list[str] = field(default_factory=list)
    wrong: list[Wrong] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Every row that can be read: where it is and whether it is sound.

    Attributes:
        names: Parts.
        part: Place of each row's part in ``names``, (N,).
        row: Number of each row within its part, (N,).
        keys: (N,) string.
        index: Number in the dataset, −1 where a row has none, (N,).
        scored: Rows with a score, (N,).
        reasons: Why rows are unsound: which of them, (N,) each.
    """

    names: list[str]
    part: NDArray[np.int64]
    row: NDArray[np.int64]
    keys: pa.Array
    index: NDArray[np.int64]
    scored: NDArray[np.bool_]
    reasons: dict[str, NDArray[np.bool_]]

    @property
    def unsound(self) -> NDArray[np.bool_]:
        """Rows with any fault, (N,)."""
        return np.logical_or.reduce([np.zeros(len(self.part), bool), *self.reasons.values()])


def verify(folder: Path, planned_keys: frozenset[str] | None = None) -> Verified:
    """Check everything that a run's folder holds.

    Every page of every part is read and its checksum compared, and every row judged; of a run that is being scored,
    the parts that are there.

    Args:
        folder: The run's folder.
        planned_keys: Keys of its images, where the dataset is at hand; None leaves that unchecked.

    Returns:
        What was found.

    Raises:
        RunError: The folder's files cannot be listed.
    """
    found = _Found()
    run = read_run(folder)
    meta = _check_meta(run, found)
    active = _check_progress(folder, found)
    damaged = _check_parts(folder, found)
    rows = _read_rows(folder, expected_of(meta), damaged)
    rows.reasons.update(_twice(rows))
    if planned_keys is not None:
        wanted = pa.array(sorted(planned_keys), pa.string())
        rows.reasons[_NOT_PLANNED] = ~pc.is_in(rows.keys, value_set=wanted).to_numpy(zero_copy_only=False)
    _tell_rows(rows, found)
    unsound = rows.unsound
    done, failed = int((rows.scored & ~unsound).sum()), int((~rows.scored & ~unsound).sum())
    planned = meta["planned"] if meta else 0
    _check_counts(folder, planned, done, failed, bool(damaged) or bool(unsound.any()), found)
    _check_files(folder, active, found)
    places = {
        name: rows.row[unsound & (rows.part == number)]
        for number, name in enumerate(rows.names)
        if (unsound & (rows.part == number)).any()
    }
    return Verified(
        run, planned, done, failed, tuple(found.right), tuple(found.wrong), tuple(found.notes), places, damaged
    )


def _check_meta(run: Run, found: _Found) -> dict[str, Any]:
    """Judge ``run.json``; what it holds if that can be relied on."""
    problem = run.problem or _contradiction(run.meta)
    if problem is None:
        found.notes += [words for words in (about_dataset(run.meta), rewritten(run.meta)) if words]
        found.right.append(f"{FILE_NAME} says what was asked for: {run.label}, {plural(run.planned, 'image')}.")
        return run.meta
    if run.meta.get("format_version") not in (None, parts.FORMAT_VERSION):
        found.wrong.append(Wrong(FILE_NAME, f"{problem} Use the version that made the run.", mendable=False))
    else:
        found.wrong.append(Wrong(FILE_NAME, f"{problem} {_AGAIN}", mendable=False))
    return {}


def _contradiction(meta: dict[str, Any]) -> str | None:
    """What no run can be, of values that have the right type."""
    encoder, eps, views = meta["encoder"], meta.get("eps", 1e-6), meta.get("views", 1)
    if not 0 <= encoder["embedding_dim"] <= _MOST:
        return f"{FILE_NAME} has an embedding of no size that there is."
    if not 0 <= encoder["null_dim"] <= max(0, encoder["embedding_dim"] - 1):
        return f"{FILE_NAME} has a null dimension that leaves nothing of {encoder['embedding_dim']}."
    if not isinstance(eps, int | float) or not 0 < eps < 1e300:
        return f"{FILE_NAME} has an eps that is not a positive number."
    if not isinstance(views, int) or not 1 <= views <= _MOST:
        return f"{FILE_NAME} has a number of views that cannot be."
    return None if 0 <= meta["planned"] < 1 << 63 else f"{FILE_NAME} plans a number of images that cannot be."


def _check_progress(folder: Path, found: _Found) -> bool:
    """Judge ``progress.json``; whether a process is at work."""
    try:
        progress = read_progress(folder)
    except (FileNotFoundError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        if not (missing and is_newborn(folder)):
            found.wrong.append(Wrong(PROGRESS_FILE, f"{PROGRESS_FILE} is missing." if missing else str(error)))
        active = False
    else:
        found.right.append(f"{PROGRESS_FILE} can be read: {progress.state}.")
        active = progress.active
    active = active or is_held(folder / ".lock")
    if active:
        found.notes.append("A process is at work on this run: what it writes from now on is not checked.")
    return active


def _check_parts(folder: Path, found: _Found) -> dict[str, str]:
    """Read every page of every part; what is wrong with those that cannot be read."""
    judged = {path: parts.problem_of(path, thorough=True) for path in parts.part_files(folder)}
    gone = set(judged) - set(parts.part_files(folder))  # meanwhile replaced: its rows are in another
    damaged = {path.name: problem for path, problem in judged.items() if problem and path not in gone}
    whole = len(judged) - len(gone) - len(damaged)
    size = sum(path.stat().st_size for path, problem in judged.items() if problem is None and path.exists())
    found.right.append(f"{plural(whole, 'part')} of {count(size / 1e6)} MB: every page is whole.")
    for name, problem in damaged.items():
        last = problem != parts.CLOSED
        words = "Its images are left out until they are scored again." if last else "Permission to read it is missing."
        found.wrong.append(Wrong(name, f"{name} {problem}. {words}", mendable=last))
    return damaged


def row_groups(path: Path) -> Iterator[tuple[int, pa.Table]]:
    """The columns of a part by which rows are judged, some thousand rows at a time.

    Args:
        path: A part that is whole.

    Yields:
        Number of the first row, and the rows.
    """
    first = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS, columns=list(COLUMNS)):
            yield first, pa.Table.from_batches([batch])
            first += len(batch)


def _read_rows(folder: Path, expected: Expected, damaged: Mapping[str, str]) -> _Rows:
    """Judge every row of the parts that can be read."""
    names: list[str] = []
    keys, pieces, reasons = [], [], []
    total = 0
    for path in parts.part_files(folder):
        if path.name in damaged:
            continue
        names.append(path.name)
        try:
            for first, table in row_groups(path):
                numbers = np.arange(first, first + len(table))
                index = table["index"].fill_null(-1).to_numpy()
                scored = pc.is_valid(table["jepa_score"]).to_numpy(zero_copy_only=False)
                pieces.append((np.full(len(table), len(names) - 1), numbers, index, scored))
                keys.append(table["key"].combine_chunks().fill_null(""))
                reasons.append((total, faults(table, expected)))
                total += len(table)
        except FileNotFoundError:  # replaced meanwhile
            continue
    part, row, index, scored = (
        (np.concatenate(column) for column in zip(*pieces, strict=True))
        if pieces
        else (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))
    )
    masks: dict[str, NDArray[np.bool_]] = {}
    for low, found in reasons:
        for reason, mask in found.items():
            masks.setdefault(reason, np.zeros(total, bool))[low : low + len(mask)] = mask
    joined = pa.concat_arrays(keys) if keys else pa.array([], pa.string())
    return _Rows(names, part, row, joined, index, scored, masks)


def _twice(rows: _Rows) -> dict[str, NDArray[np.bool_]]:
    """Rows whose key or number a better row has too: one with a score, else the first.

    A row that is unsound in itself is never the better one.
    """
    unsound = rows.unsound
    found = {}
    keys = rows.keys.dictionary_encode().indices.to_numpy()
    for reason, values in ((_TWICE, keys), (_NUMBER_TWICE, rows.index)):
        left = np.flatnonzero(~unsound)
        order = left[np.lexsort((left, ~rows.scored[left], values[left]))]
        later = np.zeros(len(unsound), bool)
        later[order[1:][values[order[1:]] == values[order[:-1]]]] = True
        found[reason] = later
        unsound = unsound | later
    return {reason: mask for reason, mask in found.items() if mask.any()}


def _tell_rows(rows: _Rows, found: _Found) -> None:
    """Say how many rows are sound, and of each reason how many are not, with the first of them."""
    sound = int((~rows.unsound).sum())
    found.right.append(
        f"{plural(sound, 'row')}, none twice: numbers finite, singular values descend and give the stored score."
    )
    for reason, mask in rows.reasons.items():
        if not mask.any():
            continue
        first = int(np.flatnonzero(mask)[0])
        what = f"{plural(int(mask.sum()), 'row')} {'has' if mask.sum() == 1 else 'have'} {reason}"
        where = f"{rows.keys[first].as_py()!r} in {rows.names[rows.part[first]]}"
        found.wrong.append(Wrong("rows", f"{what}{', such as' if mask.sum() > 1 else ':'} {where}."))


def _check_counts(folder: Path, planned: int, done: int, failed: int, explained: bool, found: _Found) -> None:
    """Compare stored rows with planned ones; what is missing may be explained by what else is wrong."""
    stored = done + failed
    words = f"{count(stored)} of {plural(planned, 'image')}: {plural(done, 'score')}, {plural(failed, 'error')}."
    if planned and stored > planned:
        found.wrong.append(
            Wrong("rows", f"The run plans {plural(planned, 'image')} and holds {count(stored)}.", mendable=False)
        )
    elif planned:
        found.right.append(words)
    if stored < planned and claims_done(folder) and not explained:
        words = f"{PROGRESS_FILE} says that the run is done, and it lacks {plural(planned - stored, 'image')}."
        found.wrong.append(Wrong(PROGRESS_FILE, words))
    elif stored < planned:
        left = plural(planned - stored, "image")
        found.notes.append(f"{left} left to score{' after a repair' if explained else ''}: the same request does that.")


def claims_done(folder: Path) -> bool:
    """Whether a run's process wrote that it had scored all images.

    Args:
        folder: The run's folder.

    Returns:
        False too where it cannot be read.
    """
    try:
        return read_progress(folder).state == "done"
    except (FileNotFoundError, ValueError):
        return False


def _check_files(folder: Path, active: bool, found: _Found) -> None:
    """Name what was left behind or set aside."""
    told = journal.parse(journal.read_bytes(folder))
    if told is None:
        words = f"{journal.FILE_NAME} is damaged: parts that a compaction left behind would be read twice."
        found.wrong.append(Wrong(journal.FILE_NAME, words))
    elif told.part and not active:
        words = f"A compaction was interrupted: {plural(len(told.supersedes), 'part')} of it may be left behind."
        found.wrong.append(Wrong(journal.FILE_NAME, f"{words} Each row is read once all the same."))
    temporary = sorted(folder.glob(f".*{TEMPORARY}"))
    if temporary and not active:
        words = f"{plural(len(temporary), 'file')} half written by a process that died, such as {temporary[0].name}."
        found.wrong.append(Wrong("files", words))
    aside = sorted(folder.glob("*.damaged"))
    if aside:
        since = time.strftime("%Y-%m-%d", time.localtime(aside[0].lstat().st_mtime))
        found.notes.append(
            f"{plural(len(aside), 'damaged part')} set aside, such as {aside[0].name} of {since}; nothing reads "
            f"{'it' if len(aside) == 1 else 'them'}, and you may delete {'it' if len(aside) == 1 else 'them'}."
        )
