"""Read ``.npy`` and ``.npz``: headers first, sizes bounded before anything is allocated, Python objects never."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from jepascore_core.errors import ImportedFileError
from jepascore_core.files import storable
from jepascore_core.importing.columns import SYNONYMS, match, shown
from jepascore_core.importing.table import MOST_ROWS, MOST_VALUES, Table, list_of, number_of, stacked, text_of

MOST_BYTES = 1 << 31  # of all entries of an archive once they are unpacked; what they claim is checked before reading
_USUAL_BYTES = 1 << 28  # beyond that, an archive that unpacks to more than a hundred times its size is a bomb
_HEADER = 10_000  # bytes of a header: a longer one is no array's
# NumPy reads a header as Python's tokens, then as a literal
_NO_HEADER = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, OverflowError, tokenize.TokenError)
_UNPACKED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


@dataclass(frozen=True, slots=True)
class _Header:
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the whole file that it should be."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path, score_column: str | None = None) -> Table:
    """Read a ``.npy`` file: spectra (N, D), or (D,) of one image; rows are numbered.

    Args:
        path: The file.
        score_column: Refused: there are no columns.

    Returns:
        The table; its array is mapped, not read.

    Raises:
        ImportedFileError: It is no such array.
    """
    if score_column is not None:
        raise ImportedFileError(f"{path.name} is one array, without columns; leave out --score-column.")
    try:
        with path.open("rb") as file:
            header = _header(file, path.name)
        if path.stat().st_size < header.size:
            raise ImportedFileError(_truncated(path.name))
        spectra = _spectra(header, path.name)
        array = np.memmap(
            path, header.dtype, "r", header.offset, header.shape, order="F" if _fortran(path) else "C"
        )  # fmt: skip
    except OSError as error:
        raise ImportedFileError(f"Cannot read {path.name} ({error.strerror}).") from error
    return Table(spectra[0], singular_values=array.reshape(spectra), found={"singular_values": "the array"})


def read_npz(path: Path, score_column: str | None = None) -> Table:
    """Read a ``.npz`` archive.

    Either one array (D,) an image, whose name is the key; or columns: an array (N, D) of spectra under any name, or
    scores (N,), with keys, classes and embeddings under the names of ``columns.SYNONYMS``.

    Args:
        path: The file.
        score_column: Which entry holds the scores.

    Returns:
        The table.

    Raises:
        ImportedFileError: It is damaged, holds Python objects or too much, or cannot be told apart.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            headers = _headers(archive, path)
            if score_column is not None or _is_table(headers):
                return _columns(archive, headers, path.name, score_column)
            return _one_an_image(archive, headers, path.name)
    except _UNPACKED as error:
        raise ImportedFileError(f"{path.name} is damaged or not a .npz archive.") from error


def _fortran(path: Path) -> bool:
    """Whether an array lies column by column."""
    with path.open("rb") as file:
        version = npy.read_magic(file)
        return bool((npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)[1])


def _header(file: IO[bytes], name: str) -> _Header:
    """Read an array's header; nothing is allocated.

    Raises:
        ImportedFileError: It is none, or that of Python objects.
    """
    try:
        # version 3.0 has named fields that are not ASCII, which no array of numbers has
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=_HEADER)
    except _NO_HEADER as error:
        raise ImportedFileError(f"{shown(name)} is not an array in NumPy's format.") from error
    if dtype.hasobject:
        raise ImportedFileError(f"{shown(name)} holds Python objects (a pickle), which are never loaded.")
    if dtype.kind not in "fiuUSb":
        raise ImportedFileError(f"{shown(name)} holds {dtype}, not real numbers or text.")
    if any(length < 0 for length in shape):
        raise ImportedFileError(f"{shown(name)} is not an array in NumPy's format.")
    return _Header(tuple(shape), dtype, _told(file))


def _told(file: IO[bytes]) -> int:
    return int(file.tell())


def _spectra(header: _Header, name: str) -> tuple[int, int]:
    """(N, D) of an array of spectra.

    Raises:
        ImportedFileError: It is none.
    """
    shape = (1, *header.shape) if len(header.shape) == 1 else header.shape
    if len(shape) != 2 or header.dtype.kind not in "fiu":
        raise ImportedFileError(
            f"{shown(name)} holds {header.dtype} of shape {header.shape}; spectra are numbers of shape (N, D), one row "
            "of singular values an image."
        )
    _check_rows(shape[0], name)
    if not shape[1]:
        raise ImportedFileError(f"{shown(name)} holds no singular values: its shape is {header.shape}.")
    return int(shape[0]), int(shape[1])


def _check_rows(n: int, name: str) -> None:
    """Refuse none and too many.

    Raises:
        ImportedFileError: There are none, or too many.
    """
    if not n:
        raise ImportedFileError(f"{shown(name)} holds no rows.")
    if n > MOST_ROWS:
        raise ImportedFileError(f"{shown(name)} has more than {MOST_ROWS:,} rows.")


def _headers(archive: zipfile.ZipFile, path: Path) -> dict[str, tuple[zipfile.ZipInfo, _Header]]:
    """Header of each array, by its name; what the archive claims to hold is bounded here.

    Raises:
        ImportedFileError: It holds none, something else, or too much.
    """
    where, infos = path.name, [info for info in archive.infolist() if not info.is_dir()]
    if not infos:
        raise ImportedFileError(f"{where} holds no arrays.")
    most = min(MOST_BYTES, max(_USUAL_BYTES, 100 * path.stat().st_size))
    if len(infos) > MOST_ROWS or sum(info.file_size for info in infos) > most:
        raise ImportedFileError(f"{where} unpacks to more than {most >> 20:,} MiB; use .npy for so much.")
    headers: dict[str, tuple[zipfile.ZipInfo, _Header]] = {}
    for info in infos:
        name = storable(info.filename.removesuffix(".npy"))
        if name in headers:
            raise ImportedFileError(f"{where} has two entries named {shown(name)}.")
        with archive.open(info) as file:
            header = _header(file, info.filename)
        if header.size != info.file_size:
            raise ImportedFileError(_truncated(info.filename))
        headers[name] = info, header
    return headers


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, _: _Header) -> NDArray[Any]:
    """One array, whose size was checked."""
    try:
        with archive.open(info) as file:
            return np.asarray(npy.read_array(file, allow_pickle=False))
    except (ValueError, UnicodeError) as error:
        raise ImportedFileError(_truncated(info.filename)) from error


def _is_table(headers: Mapping[str, tuple[zipfile.ZipInfo, _Header]]) -> bool:
    """Whether the entries are columns: one has rows of numbers, or is called as scores are, which no image is."""
    scores = any(name.lower() in SYNONYMS["score"] for name in headers)
    return scores or any(len(header.shape) > 1 for _, header in headers.values())


def _columns(
    archive: zipfile.ZipFile, headers: Mapping[str, tuple[zipfile.ZipInfo, _Header]], where: str, score: str | None
) -> Table:
    """Entries as columns.

    Raises:
        ImportedFileError: They cannot be told apart, or are not of one length.
    """
    unnamed = _unnamed_spectra(headers, where) if score is None else None
    names = ["singular_values" if name == unnamed else name for name in headers]
    found = match(names, where, score)
    found |= {kind: unnamed for kind, name in found.items() if unnamed and name == "singular_values"}
    lists = ("singular_values", "embedding", "view_scores")
    found.pop("error", None)
    wanted = {kind: name for kind, name in found.items() if len(headers[name][1].shape) == (2 if kind in lists else 1)}
    bad = [name for kind, name in found.items() if kind not in wanted and kind in ("score", "singular_values")]
    if bad:
        raise ImportedFileError(f"Entry {shown(bad[0])} of {where} has the shape {headers[bad[0]][1].shape}.")
    lengths = {name: headers[name][1].shape[0] for name in wanted.values()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{shown(name)} {length:,}" for name, length in lengths.items())
        raise ImportedFileError(f"The columns of {where} are not of one length: {told}.")
    size = next(iter(lengths.values()))
    _check_rows(size, where)
    if "singular_values" in wanted:
        _spectra(headers[wanted["singular_values"]][1], wanted["singular_values"])
    arrays = {kind: _read(archive, *headers[name]) for kind, name in wanted.items()}
    problems = {}
    numbers = {}
    for kind in set(arrays) & {"score", "score_error", "sphere_term"}:
        parsed = [number_of(value) for value in arrays[kind].tolist()]
        numbers[kind] = np.array([np.nan if value is None else value for value in parsed])
        if kind == "score":
            problems = {
                place: f"Its score {shown(arrays[kind][place], 40)} is not a number."
                for place, value in enumerate(parsed)
                if value is None
            }
    extras = {kind: numbers[kind] for kind in ("score_error", "sphere_term") if kind in numbers}
    embedding, views = (_floats(arrays.get(kind)) for kind in ("embedding", "view_scores"))
    return Table(
        size,
        _texts(arrays.get("key")),
        numbers.get("score"),
        arrays.get("singular_values"),
        _texts(arrays.get("class_name")),
        embedding,
        extras | ({} if views is None else {"view_scores": views}),
        problems,
        found=wanted,
        ignored=[name for name in headers if name not in wanted.values()],
    )


def _floats(array: NDArray[Any] | None) -> NDArray[Any] | None:
    """An array of numbers, or None."""
    return array if array is not None and array.dtype.kind in "fiu" and array.shape[1] else None


def _texts(array: NDArray[Any] | None) -> list[str] | None:
    return None if array is None else [text_of(value) for value in array.tolist()]


def _unnamed_spectra(headers: Mapping[str, tuple[zipfile.ZipInfo, _Header]], where: str) -> str | None:
    """The one entry with rows of numbers that has no name we know: spectra, if nothing else is.

    Raises:
        ImportedFileError: There are several.
    """
    known = {synonym for synonyms in SYNONYMS.values() for synonym in synonyms}
    names = {name.lower() for name in headers}
    if names & {*SYNONYMS["singular_values"], *SYNONYMS["score"]}:
        return None
    rows = [name for name, (_, header) in headers.items() if len(header.shape) > 1 and name.lower() not in known]
    if len(rows) > 1:
        listed = ", ".join(f"{shown(name)} {headers[name][1].shape}" for name in rows[:8])
        raise ImportedFileError(
            f"{where} has {len(rows)} arrays that may be the spectra ({listed}); name the right one svdvals."
        )
    if rows:
        _spectra(headers[rows[0]][1], rows[0])
    return rows[0] if rows else None


def _one_an_image(
    archive: zipfile.ZipFile, headers: Mapping[str, tuple[zipfile.ZipInfo, _Header]], where: str
) -> Table:
    """One spectrum an entry; its name is the key.

    Raises:
        ImportedFileError: No entry is one.
    """
    rows = {name: held for name, held in headers.items() if len(held[1].shape) == 1 and held[1].dtype.kind in "fiu"}
    if not rows:
        raise ImportedFileError(f"{where} holds no spectra: no entry is numbers of shape (D,) or (N, D).")
    sizes = [held[1].shape[0] for held in rows.values()]
    if len(rows) * max(sizes) > MOST_VALUES:
        raise ImportedFileError(f"{where} holds more than {MOST_VALUES:,} numbers; use .npy for so many.")
    lists: Sequence[NDArray[np.float64] | None] = [_filled(_read(archive, *held)) for held in rows.values()]
    array, problems = stacked(lists)
    if array is None:
        raise ImportedFileError(f"{where} holds no singular values: its arrays are empty.")
    ignored = [name for name in headers if name not in rows]
    found = {"key": "the entries' names", "singular_values": "the entries"}
    return Table(len(rows), list(rows), singular_values=array, problems=problems, found=found, ignored=ignored)


def _filled(array: NDArray[Any]) -> NDArray[np.float64] | None:
    """A spectrum, or None where it is empty."""
    values = list_of(array)
    return values if values is not None and values.size else None


def _truncated(name: str) -> str:
    return f"{shown(name)} is truncated or damaged: it holds less than its header says."
