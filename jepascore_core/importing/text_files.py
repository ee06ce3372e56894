"""Read CSV and JSON lines, a piece at a time."""

import csv
import itertools
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from jepascore_core.errors import ImportedFileError
from jepascore_core.importing.columns import match, no_choice, shown
from jepascore_core.importing.table import Columns, Table

LONGEST_LINE = 1 << 23  # bytes: 4,096 singular values and as many embeddings take 200,000
_PIECE = 5_000  # rows
# the columns that our own export of a run writes, in which text that begins like a formula has an apostrophe
_OURS = ["index", "key", "label", "class_name", "width", "height", "jepa_score", "score_error", "sphere_term", "error"]


def read_csv(path: Path, score_column: str | None = None) -> Table:
    """Read a CSV file with a header; commas, semicolons or tabs; UTF-8.

    Args:
        path: The file.
        score_column: The column of scores, where the person said so.

    Returns:
        The table.

    Raises:
        ImportedFileError: It is not such a file.
    """
    head = _first_line(path)
    separator = max(",;\t", key=head.count)
    csv.field_size_limit(LONGEST_LINE)
    names: list[str] = []
    rows = _cells(path, separator)
    try:
        names = next(rows, names)
        if not any(name.strip() for name in names):
            raise ImportedFileError(f"{path.name} has no header: its first line must name the columns.")
        found = match([name for name in names if name.strip()], path.name, score_column)
        columns, ours = Columns(path.name, found, no_choice(names, found)), names == _OURS
        places = {kind: names.index(name) for kind, name in found.items()}
        while piece := list(itertools.islice(rows, _PIECE)):
            cells = {kind: [row[place] for row in piece] for kind, place in places.items()}
            columns.add({kind: _armed(held) if ours else held for kind, held in cells.items()}, len(piece))
    except csv.Error as error:
        raise ImportedFileError(f"{path.name} is not a CSV file as it stands ({error}).") from error
    return columns.table()


def read_json_lines(path: Path, score_column: str | None = None) -> Table:
    """Read JSON lines: one object an image; or one JSON array of such objects.

    Args:
        path: The file.
        score_column: The name of the score, where the person said so.

    Returns:
        The table; its columns are the names that occur in the first thousand objects.

    Raises:
        ImportedFileError: A line is no JSON object; the message gives its number.
    """
    first = _first_line(path).lstrip()
    if not first:
        raise ImportedFileError(f"{path.name} is empty.")
    rows = _array(path) if first.startswith("[") else _lines(path)
    ahead = list(itertools.islice(rows, 1_000))
    names = list(dict.fromkeys(name for row in ahead for name in row))
    found = match(names, path.name, score_column)
    columns = Columns(path.name, found, no_choice(names, found))
    while ahead:
        columns.add({kind: [row.get(name) for row in ahead] for kind, name in found.items()}, len(ahead))
        ahead = list(itertools.islice(rows, 1_000))
    return columns.table()


def _armed(cells: list[str]) -> list[str]:
    """Text as it was before ``exports.disarmed``."""
    return [cell[1:] if cell[:1] == "'" and cell[1:2] in tuple("=+-@\t\r\n＝＋－＠") else cell for cell in cells]


def _first_line(path: Path) -> str:
    """The first line that is not blank; "" where there is none."""
    try:
        with path.open("rb") as file:
            line = b""
            while not line.strip():
                line = file.readline(LONGEST_LINE)
                if not line:
                    return ""
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImportedFileError(_encoding(path)) from error
    except OSError as error:
        raise ImportedFileError(f"Cannot read {path.name} ({error.strerror}).") from error


def _cells(path: Path, separator: str) -> Generator[list[str], None, None]:
    """Rows of cells, as many as the header has; what a short row lacks is empty.

    Raises:
        ImportedFileError: A row has more.
    """
    reader, width = csv.reader((line for _, line in _text(path)), delimiter=separator, strict=True), 0
    for row in reader:
        if not row:
            continue
        width = width or len(row)
        if len(row) > width and any(cell.strip() for cell in row[width:]):
            raise ImportedFileError(
                f"Line {reader.line_num:,} of {path.name} has {len(row)} cells, and the header {width}."
            )
        yield row[:width] + [""] * (width - len(row))


def _text(path: Path) -> Generator[tuple[int, str], None, None]:
    """Lines with their numbers, from 1."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise ImportedFileError(
                        f"Line {number:,} of {path.name} is longer than {LONGEST_LINE >> 20} MiB; no row of scores is."
                    )
                if b"\0" in line:
                    raise ImportedFileError(f"{path.name} is not UTF-8 text: line {number:,} holds null bytes.")
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ImportedFileError(_encoding(path)) from error
    except OSError as error:
        raise ImportedFileError(f"Cannot read {path.name} ({error.strerror}).") from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects, one a line; blank lines are passed over."""
    for number, line in _text(path):
        if line.strip():
            yield _object(line, f"Line {number:,} of {path.name}")


def _array(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of one JSON array."""
    text = "".join(line for _, line in _text(path))
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportedFileError(f"{path.name} is not valid JSON; it may be truncated.") from error
    for place, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ImportedFileError(f"Entry {place:,} of {path.name} is not a JSON object.")
        yield row


def _object(line: str, where: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        ImportedFileError: It is none.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ImportedFileError(f"{where} is not valid JSON: {shown(line.strip(), 40)}.") from error
    if not isinstance(row, dict):
        raise ImportedFileError(f"{where} is not a JSON object: {shown(line.strip(), 40)}.")
    return row


def _encoding(path: Path) -> str:
    return f"{path.name} is not UTF-8 text; save it as UTF-8."
