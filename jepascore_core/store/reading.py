"""What every order of a run shares: keys, classes and numbers of its images, read once whatever the score convention.

A reading takes about 55 bytes an image, of which runs of the same images share the keys. When parts are added to a
run, only those are read. That of a large run that is done is kept in a hidden folder beside the runs, for the next
server.
"""

import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.allowed import read_only
from jepascore_core.store import parts
from jepascore_core.store.array_files import array_file, read_arrays, write_arrays
from jepascore_core.store.columns import PartsChangedError, of_parts, patiently
from jepascore_core.store.parts import PartFile
from jepascore_core.store.progress import read_progress
from jepascore_core.store.shelf import Held, held_by, name_of, shelf

_Made = TypeVar("_Made")

FOLDER = ".readings"
LEAST_KEPT = 100_000  # images; fewer are read in a moment
_MOST_KEPT = 32
_FORMAT = 1  # of what is kept

_COLUMNS = ("index", "key", "label", "class_name", "jepa_score", "score_error")


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """All images of a run that have a stored score, part after part. A *row* is a position in it, 0..N−1.

    Attributes:
        files: The parts that were read, F of them.
        starts: First row of each part, and N, (F + 1,).
        keys: Key of each image, (N,) string; runs of the same images share them.
        index: Number of each image in its run, (N,).
        class_codes: Place of each image's class in ``class_names``, (N,).
        class_names: Names of the classes, by label; "" where images have none.
        labels: Label of each class, −1 where it has none.
        stored: The stored score, nats, (N,) float64.
        errors: Rounding error of the stored score, nats, (N,).
        by_index: Rows by ascending ``index``, (N,); None where they are so already.
        digest: Of the keys by ascending ``index``: the same text, the same images.
    """

    files: tuple[PartFile, ...] = field(repr=False)
    starts: NDArray[np.int64] = field(repr=False)
    keys: pa.StringArray = field(repr=False)
    index: NDArray[np.int64] = field(repr=False)
    class_codes: NDArray[np.int32] = field(repr=False)
    class_names: tuple[str, ...]
    labels: tuple[int, ...]
    stored: pa.DoubleArray = field(repr=False)
    errors: NDArray[np.float32] = field(repr=False)
    by_index: NDArray[np.int32] | None = field(repr=False)
    digest: str = field(repr=False)

    def __len__(self) -> int:
        return len(self.index)

    def rows_of(self, index: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of some images by their numbers in the run, −1 where the run has no score of one."""
        wanted = np.asarray(index, np.int64)
        if not len(self):
            return np.full(len(wanted), -1)
        at = np.searchsorted(self.index, wanted, sorter=self.by_index).clip(max=len(self) - 1)
        rows = at if self.by_index is None else self.by_index[at].astype(np.int64)
        return np.where(self.index[rows] == wanted, rows, -1)

    def row_of(self, key: str) -> int | None:
        """Row of an image, or None where it has no score."""
        row = pc.index(self.keys, pa.scalar(key, pa.string())).as_py()
        return None if row < 0 else int(row)

    def paths_of(self, rows: NDArray[np.int64]) -> list[Path]:
        """The parts that hold some rows, in the order of writing."""
        found = np.unique(np.searchsorted(self.starts, rows, side="right") - 1)
        return [self.files[number].path for number in found]

    def held(self) -> Held:
        """Its memory; see ``Shelf``."""
        arrays = (self.keys, self.index, self.class_codes, self.stored, self.errors, self.by_index)
        return held_by(*arrays)


def reading(folder: Path) -> Reading:
    """Read what all orders of a run share; remembered until its parts change, and then added to.

    Args:
        folder: The run's folder.

    Returns:
        The reading; empty for a run without scores.

    Raises:
        RunError: A part cannot be read although it is whole.
    """
    stamp, name = parts.stamp(folder), name_of("reading", folder)
    held = shelf.get(name, stamp)
    if held is None:
        last = shelf.last(name)
        held = _kept(folder) if last is None else None
        if held is None:
            held = patiently(lambda: _read(folder, last))
            _keep(folder, held)
        shelf.put(name, stamp, held, held.held(), dear=True)
    return held


def from_reading(folder: Path, make: Callable[[Reading], _Made]) -> _Made:
    """Make something of a run's reading and its parts, again as long as parts come and go meanwhile.

    Args:
        folder: The run's folder.
        make: Gets the reading; raises ``PartsChangedError`` where a part of it is gone, or proves damaged.

    Returns:
        What it made.

    Raises:
        RunError: The run cannot be read.
    """

    def attempt() -> _Made:
        try:
            return make(reading(folder))
        except PartsChangedError:
            shelf.drop(lambda name, _: name == name_of("reading", folder))
            raise

    return patiently(attempt)


def known_reading(folder: Path) -> Reading | None:
    """The reading of a run as it is now, if it is remembered."""
    return shelf.get(name_of("reading", folder), parts.stamp(folder))


def parts_with(folder: Path, key: str) -> list[Path] | None:
    """The part that holds an image, as far as memory tells; None where any part may hold it."""
    known = known_reading(folder)
    row = None if known is None else known.row_of(key)
    return None if known is None or row is None else known.paths_of(np.array([row]))


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Rows of one part or of several; its classes have numbers of their own."""

    keys: pa.StringArray
    index: NDArray[np.int64]
    codes: NDArray[np.int32]
    names: pa.StringArray  # (C,), some of which no row may have
    labels: NDArray[np.int64]  # (C,)
    stored: pa.DoubleArray
    errors: NDArray[np.float32]


def _read(folder: Path, last: Reading | None) -> Reading:
    """Read the parts that the last reading does not hold, and put all in the order of writing."""
    files = parts.identified(folder)
    pieces = _cut(last, set(files)) if last is not None else {}
    new = [file for file in files if file not in pieces]
    made = of_parts([file.path for file in new], _COLUMNS, _piece)
    pieces |= {file: _joined(found) for file, found in zip(new, made, strict=True) if found is not None}
    return _reading({file: pieces[file] for file in files if file in pieces})


def _cut(last: Reading, wanted: set[PartFile]) -> dict[PartFile, _Piece]:
    """A reading's own parts, as far as they are wanted."""
    names, labels = pa.array(last.class_names, pa.string()), np.array(last.labels, np.int64)
    spans = zip(last.files, last.starts[:-1].tolist(), last.starts[1:].tolist(), strict=True)
    return {
        file: _Piece(
            last.keys.slice(start, end - start), last.index[start:end], last.class_codes[start:end], names, labels,
            last.stored.slice(start, end - start), last.errors[start:end],
        )
        for file, start, end in spans if file in wanted
    }  # fmt: skip


def _piece(table: pa.Table) -> _Piece:
    """The narrow columns of some rows.

    Raises:
        ArrowInvalid: A text is not UTF-8.
    """
    key, names = (table[name].combine_chunks() for name in ("key", "class_name"))
    key.validate(full=True)
    names.validate(full=True)
    classes = names.fill_null("").dictionary_encode()
    codes = classes.indices.to_numpy()
    labels = np.full(len(classes.dictionary), -1, np.int64)
    labels[codes] = table["label"].fill_null(-1).to_numpy()
    return _Piece(
        key, table["index"].to_numpy(), codes, classes.dictionary, labels, table["jepa_score"].combine_chunks(),
        table["score_error"].to_numpy().astype(np.float32),
    )  # fmt: skip


def _joined(pieces: Sequence[_Piece]) -> _Piece:
    """Pieces one after the other; of a class that has several labels, the last one counts."""
    if len(pieces) == 1:
        return pieces[0]
    coded = [pa.DictionaryArray.from_arrays(piece.codes, piece.names, safe=False) for piece in pieces]
    together = pa.chunked_array(coded, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries()
    names = together.chunk(0).dictionary if pieces else pa.array([], pa.string())
    codes = _together([chunk.indices.to_numpy() for chunk in together.chunks], np.int32)
    labels = np.full(len(names), -1, np.int64)
    labels[codes] = _together([piece.labels[piece.codes] for piece in pieces], np.int64)
    return _Piece(
        pa.concat_arrays([piece.keys for piece in pieces] or [pa.array([], pa.string())]),
        _together([piece.index for piece in pieces], np.int64),
        codes,
        names,
        labels,
        pa.concat_arrays([piece.stored for piece in pieces] or [pa.array([], pa.float64())]),
        _together([piece.errors for piece in pieces], np.float32),
    )


def _together(arrays: Sequence[NDArray], kind: type) -> NDArray:
    return np.concatenate(arrays) if len(arrays) else np.zeros(0, kind)


def _reading(pieces: dict[PartFile, _Piece]) -> Reading:
    """Parts in the order of writing, classes in the order of labels."""
    whole = _joined(list(pieces.values()))
    starts = np.cumsum([0, *(len(piece.index) for piece in pieces.values())])
    names, labels = whole.names.to_pylist(), whole.labels.tolist()
    used = np.flatnonzero(np.bincount(whole.codes, minlength=len(names)))
    order = sorted(used.tolist(), key=lambda code: (labels[code], names[code]))
    place = np.zeros(len(names), np.int32)
    place[order] = np.arange(len(order))
    ascending = bool((whole.index[1:] >= whole.index[:-1]).all())
    by_index = None if ascending else np.argsort(whole.index, kind="stable").astype(np.int32)
    digest = digest_of(whole.keys)
    keys = _keys.setdefault(digest, whole.keys)  # in the memory of another run that holds them too
    return Reading(
        tuple(pieces), starts, keys, whole.index, place[whole.codes], tuple(names[code] for code in order),
        tuple(labels[code] for code in order), whole.stored, whole.errors, by_index,
        digest if by_index is None else digest_of(keys.take(pa.array(by_index))),
    )  # fmt: skip


def _file(folder: Path, files: Sequence[PartFile]) -> Path:
    """Where the reading of some parts is kept."""
    made_from = [_FORMAT, str(folder.absolute()), [[file.path.name, *file.stamp] for file in files]]
    return array_file(folder.absolute().parent / FOLDER, made_from)


def _keep(folder: Path, held: Reading) -> None:
    """Keep the reading of a large run that is done."""
    if len(held) < LEAST_KEPT or read_only() or not _is_done(folder):
        return
    _, offsets, letters = held.keys.buffers()
    if held.keys.offset or letters is None:
        return
    about = {"class_names": held.class_names, "labels": held.labels, "digest": held.digest}
    arrays = {
        "about": np.frombuffer(json.dumps(about).encode(errors="surrogatepass"), np.uint8), "starts": held.starts,
        "offsets": np.frombuffer(offsets, np.int32)[: len(held) + 1], "letters": np.frombuffer(letters, np.uint8),
        "index": held.index, "codes": held.class_codes, "stored": held.stored.to_numpy(), "errors": held.errors,
    }  # fmt: skip
    if held.by_index is not None:
        arrays["by_index"] = held.by_index
    write_arrays(_file(folder, held.files), arrays, most=_MOST_KEPT)


def _is_done(folder: Path) -> bool:
    """Whether nobody adds to a run."""
    try:
        return not read_progress(folder).active
    except (FileNotFoundError, ValueError):
        return False


def _kept(folder: Path) -> Reading | None:
    """The reading of a run as it is now, if it is kept and sound."""
    files = tuple(parts.identified(folder))
    found = read_arrays(_file(folder, files)) if files else None
    if found is None:
        return None
    try:
        about = json.loads(found["about"].tobytes())
        n = len(found["index"])
        keys = pa.StringArray.from_buffers(n, pa.py_buffer(found["offsets"]), pa.py_buffer(found["letters"]))
        keys.validate(full=True)
        held = Reading(
            files, found["starts"], keys, found["index"], found["codes"], tuple(about["class_names"]),
            tuple(about["labels"]), pa.array(found["stored"]), found["errors"], found.get("by_index"), about["digest"],
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, pa.ArrowException):
        return None
    return replace(held, keys=_keys.setdefault(digest_of(keys), keys)) if _sound(held) else None


def _sound(held: Reading) -> bool:
    """Whether a kept reading fits together: its checksums say that it is what was written, not by whom."""
    n, classes = len(held.index), len(held.class_names)
    rows = [held.keys, held.class_codes, held.stored, held.errors]
    return (
        all(len(column) == n for column in rows)
        and (held.index.dtype, held.class_codes.dtype, held.errors.dtype) == (np.int64, np.int32, np.float32)
        and held.stored.type == pa.float64()
        and len(held.labels) == classes
        and (not n or 0 <= held.class_codes.min() <= held.class_codes.max() < classes)
        and len(held.starts) == len(held.files) + 1
        and held.starts[0] == 0
        and held.starts[-1] == n
        and bool((np.diff(held.starts) >= 0).all())
        and (held.by_index is None or np.array_equal(np.sort(held.by_index), np.arange(n)))
    )


_keys: "weakref.WeakValueDictionary[str, pa.StringArray]" = weakref.WeakValueDictionary()


def digest_of(keys: pa.StringArray) -> str:
    """A short name for some keys in their order."""
    _, offsets, letters = keys.buffers()
    ends = np.frombuffer(offsets, np.int32)[keys.offset : keys.offset + len(keys) + 1] if len(keys) else np.zeros(1)
    name = sha256((ends - ends[0]).tobytes())
    if letters is not None:
        name.update(memoryview(letters)[int(ends[0]) : int(ends[-1])])
    return name.hexdigest()
