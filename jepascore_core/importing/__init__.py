"""Results that others computed, as a run: one reader for each format, one neutral table, one writer.

``arrays``, ``text_files`` and ``parquet`` read; ``columns`` tells what is what; ``judging`` scores each row under our
rule or says why it has no score; ``writing`` makes the folder.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from jepascore_core.allowed import check_path
from jepascore_core.errors import ImportedFileError
from jepascore_core.files import why
from jepascore_core.importing.arrays import read_npy, read_npz
from jepascore_core.importing.columns import shown
from jepascore_core.importing.judging import Results, judge
from jepascore_core.importing.parquet import read_parquet
from jepascore_core.importing.request import DIRECTIONS, ImportRequest
from jepascore_core.importing.table import Table
from jepascore_core.importing.text_files import read_csv, read_json_lines
from jepascore_core.importing.writing import existing, write
from jepascore_core.store.runs import Run, runs_home

__all__ = ["DIRECTIONS", "ENDINGS", "ImportRequest", "Results", "import_file", "look", "save"]

Reader = Callable[[Path, str | None], Table]

_READERS: dict[str, Reader] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
    ".parquet": read_parquet,
}
ENDINGS = tuple(_READERS)
MOST_FILE_BYTES = 1 << 31  # of a file that is read; a .npy file is mapped, and may be larger
# how files begin, whatever their names say
_MAGIC = {b"\x93NUMPY": "a .npy array", b"PK\x03\x04": "an archive (.npz)", b"PAR1": "Parquet", b"\x80": "a pickle"}
_BINARY = {".npy": b"\x93NUMPY", ".npz": b"PK\x03\x04", ".parquet": b"PAR1"}


def import_file(request: ImportRequest, runs_dir: str | Path | None = None) -> tuple[Run, Results | None]:
    """Make a run of a file of results.

    Args:
        request: The file, and what it holds results of.
        runs_dir: Where runs lie; None takes the usual place.

    Returns:
        The run, and what was found in the file; None where the run was there already.

    Raises:
        JepaScoreError: The file cannot be imported, or the run cannot be written.
    """
    request.check()
    home = runs_home(runs_dir)
    _reader(request)  # refuses what is no file of results before all of it is read
    sha256 = _sha256(request.path)
    if (before := existing(request, sha256, home)) is not None:
        return before, None
    results = look(request)
    return write(results, sha256, home), results


def look(request: ImportRequest) -> Results:
    """Read a file and judge its rows; writes nothing.

    Args:
        request: The file, and what it holds results of.

    Returns:
        What a run would be made of.

    Raises:
        ImportedFileError: The file cannot be imported.
    """
    request.check()
    return judge(_reader(request)(request.path, request.score_column), request)


def save(results: Results, runs_dir: str | Path | None = None) -> Run:
    """Write what ``look`` found as a run, or find the run that it became before.

    Args:
        results: What was found.
        runs_dir: Where runs lie; None takes the usual place.

    Returns:
        The run.

    Raises:
        JepaScoreError: The run cannot be written.
    """
    home, sha256 = runs_home(runs_dir), _sha256(results.request.path)
    return existing(results.request, sha256, home) or write(results, sha256, home)


def _reader(request: ImportRequest) -> Reader:
    """What reads a file, by its ending; its first bytes must agree.

    Raises:
        ImportedFileError: There is no such file, it may not be read, or it is of another kind.
    """
    path = request.path
    if request.file_name is None:  # else its bytes were handed over, and nobody named a path
        check_path(path, ImportedFileError)
    ending = path.suffix.lower()
    if ending not in _READERS:
        raise ImportedFileError(f"Cannot import {shown(path.name)}: the name must end in {', '.join(ENDINGS)}.")
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - never raise
        raise ImportedFileError(f"{path.name} is not a file.")
    try:
        with path.open("rb") as file:
            begins = file.read(8)
        size = path.stat().st_size
    except ValueError as error:  # null bytes, or what is not Unicode
        raise ImportedFileError(f"There can be no file {shown(path.name)}.") from error
    except OSError as error:
        raise ImportedFileError(f"Cannot read {path.name} ({why(error)}).") from error
    if not size:
        raise ImportedFileError(f"{path.name} is empty.")
    if size > MOST_FILE_BYTES and ending != ".npy":
        raise ImportedFileError(f"{path.name} is larger than {MOST_FILE_BYTES >> 30} GiB; use .npy for so much.")
    wanted = _BINARY.get(ending)
    if wanted is None or not begins.startswith(wanted):
        other = next((what for magic, what in _MAGIC.items() if begins.startswith(magic)), None)
        if other is not None:
            raise ImportedFileError(f"{path.name} is {other}, not what its name says.")
        if wanted is not None:
            raise ImportedFileError(f"{path.name} is damaged, or not a {ending} file.")
    return _READERS[ending]


def _sha256(path: Path) -> str:
    """Digest of a file's bytes.

    Raises:
        ImportedFileError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImportedFileError(f"Cannot read {path.name} ({why(error)}).") from error
