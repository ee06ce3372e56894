"""The neutral table that every reader makes and the writer takes: plain columns, a problem for each bad row."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jepascore_core.errors import ImportedFileError
from jepascore_core.files import storable
from jepascore_core.importing.columns import shown

MOST_ROWS = 5_000_000
MOST_VALUES = 1 << 28  # numbers of all lists of a file: 2 GiB in float64
LONGEST_KEY = 1024  # letters; addresses hold keys
LONGEST_LIST = 1 << 16  # D of the largest encoder known here is 4,096

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """N rows as a file holds them, before anything is judged.

    Attributes:
        size: N.
        keys: Key of each row; "" where it has none. None where the file has none: rows are then numbered.
        scores: As given, (N,), NaN where there is none; or None.
        singular_values: σ as given, (N, D), any float dtype, in any order; or None.
        class_names: Class of each row, "" where it has none; or None.
        embeddings: (N, E), any float dtype; or None.
        extras: Further numbers (N,), or (N, T) for ``view_scores``, by column of a run; NaN where there is none.
        problems: Why a row has no score, by its position.
        reasons: What the file itself says of rows, by position; it counts where a row has no score.
        found: Name of the file's column, by what it holds.
        ignored: Names of the other columns.
    """

    size: int
    keys: Sequence[str] | None = None
    scores: NDArray[np.float64] | None = None
    singular_values: Floats | None = None
    class_names: Sequence[str] | None = None
    embeddings: Floats | None = None
    extras: Mapping[str, Floats] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)
    reasons: Mapping[int, str] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)
    ignored: Sequence[str] = ()

    @property
    def dim(self) -> int:
        """D, or E where there are no spectra, or 0."""
        for values in (self.singular_values, self.embeddings):
            if values is not None:
                return int(values.shape[1])
        return 0


@dataclass(slots=True)
class Columns:
    """Collects rows of text formats and Parquet, a piece at a time, and makes the table.

    Attributes:
        where: Name of the file, for messages.
        found: Name of the file's column, by what it holds.
        ignored: Names of the other columns.
        size: Rows so far.
    """

    where: str
    found: Mapping[str, str]
    ignored: Sequence[str]
    size: int = 0
    _texts: dict[str, list[str]] = field(default_factory=dict)
    _numbers: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    _lists: dict[str, list[Floats | None]] = field(default_factory=dict)
    _problems: dict[int, str] = field(default_factory=dict)
    _values: int = 0

    def add(self, rows: Mapping[str, Sequence[object]], n: int) -> None:
        """Take a piece of the file.

        Args:
            rows: n values of each column that was found, by what it holds: text, numbers, or lists of numbers.
            n: Rows of the piece.

        Raises:
            ImportedFileError: There is more than we take.
        """
        if self.size + n > MOST_ROWS:
            raise ImportedFileError(f"{self.where} has more than {MOST_ROWS:,} rows.")
        for kind, values in rows.items():
            if kind in ("key", "class_name", "error"):
                self._texts.setdefault(kind, []).extend(map(text_of, values))
            elif kind in ("singular_values", "embedding", "view_scores"):
                self._add_lists(kind, values)
            else:
                self._numbers.setdefault(kind, []).append(self._parsed(kind, values))
        self.size += n

    def table(self) -> Table:
        """All rows.

        Returns:
            The table.

        Raises:
            ImportedFileError: There are no rows.
        """
        if not self.size:
            raise ImportedFileError(f"{self.where} holds no rows.")
        numbers = {kind: np.concatenate(pieces) for kind, pieces in self._numbers.items()}
        lists = {kind: self._stacked(kind) for kind in list(self._lists)}
        told = {place: reason for place, reason in enumerate(self._texts.get("error", ())) if reason}
        extras: dict[str, Floats] = {kind: numbers[kind] for kind in ("score_error", "sphere_term") if kind in numbers}
        if (views := lists.get("view_scores")) is not None:
            extras["view_scores"] = views
        return Table(
            self.size,
            self._texts.get("key"),
            numbers.get("score"),
            lists.get("singular_values"),
            self._texts.get("class_name"),
            lists.get("embedding"),
            extras,
            self._problems,
            told,
            self.found,
            self.ignored,
        )

    def _parsed(self, kind: str, values: Sequence[object]) -> NDArray[np.float64]:
        """Numbers from cells; a score that is none is its row's problem."""
        out = np.full(len(values), np.nan)
        for place, value in enumerate(values):
            number = number_of(value)
            if number is not None:
                out[place] = number
            elif kind == "score":
                self._problems.setdefault(self.size + place, f"Its score {shown(value, 40)} is not a number.")
        return out

    def _add_lists(self, kind: str, values: Sequence[object]) -> None:
        """Lists of numbers from cells."""
        held = self._lists.setdefault(kind, [])
        for place, value in enumerate(values):
            numbers = list_of(value)
            if numbers is None and kind == "singular_values":
                self._problems.setdefault(self.size + place, "Its singular values are not a list of numbers.")
            held.append(numbers if numbers is not None and numbers.size else None)
            self._values += 0 if numbers is None else numbers.size
            if numbers is not None and numbers.size > LONGEST_LIST:
                raise ImportedFileError(
                    f"{self.where} has a list of {numbers.size:,} numbers; {LONGEST_LIST:,} is the most."
                )
        if self._values > MOST_VALUES:
            raise ImportedFileError(f"{self.where} holds more than {MOST_VALUES:,} numbers; use .npy for so many.")

    def _stacked(self, kind: str) -> Floats | None:
        """Lists as one array of their commonest length; NaN and a problem where a row's is another."""
        array, problems = stacked(self._lists.pop(kind))
        if kind == "singular_values":
            self._problems |= {place: self._problems.get(place, reason) for place, reason in problems.items()}
        return array


def stacked(lists: Sequence[Floats | None]) -> tuple[Floats | None, dict[int, str]]:
    """Rows of the commonest length as one array.

    Args:
        lists: One (D,) for each row, or None.

    Returns:
        (N, D), NaN where a row has none or one of another length, and what is wrong with those rows; None where no
        row has any.

    Example:
        >>> array, problems = stacked([np.ones(2), np.ones(2), np.ones(3), None])
        >>> array.shape, problems
        ((4, 2), {2: 'It has 3 singular values where the others have 2.', 3: 'The file gives it no singular values.'})
    """
    lengths = Counter(row.size for row in lists if row is not None)
    if not lengths:
        return None, {}
    dim = lengths.most_common(1)[0][0]
    array = np.full((len(lists), dim), np.nan)
    problems = {}
    for place, row in enumerate(lists):
        if row is not None and row.size == dim:
            array[place] = row
        elif row is None:
            problems[place] = "The file gives it no singular values."
        else:
            problems[place] = f"It has {row.size} singular values where the others have {dim}."
    return array, problems


def text_of(value: object) -> str:
    """A cell as text: whole numbers without a point, nothing as "".

    Args:
        value: Of any kind.

    Returns:
        Text that can be stored.

    Example:
        >>> text_of(3.0), text_of(None), text_of(b"a"), text_of(float("nan"))
        ('3', '', 'a', '')
    """
    if value is None or (isinstance(value, float | np.floating) and value != value):
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return storable(str(value))


def number_of(value: object) -> float | None:
    """A cell as a number.

    Args:
        value: Text or a number.

    Returns:
        The number; NaN where the cell is empty or says so; None where it is no number.

    Example:
        >>> number_of(" 1.5 "), number_of("NA"), number_of("1,5"), number_of(True)
        (1.5, nan, None, None)
    """
    if value is None:
        return float("nan")
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, str):
        words = value.strip()
        if words.lower() in ("", "na", "n/a", "nan", "none", "null"):
            return float("nan")
        value = words if "_" not in words else "?"  # Python takes 1_000
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number that no float can hold
        return float("inf")
    except (TypeError, ValueError):
        return None


def list_of(value: object) -> NDArray[np.float64] | None:
    """A cell as a list of numbers: a list, or text such as ``[1.0, 0.5]`` or ``1.0 0.5``.

    Args:
        value: The cell.

    Returns:
        (D,), empty where the cell is; None where it is no list of numbers.

    Example:
        >>> list_of("[1.0, 0.5]"), list_of("1 0.5;2"), list_of("[1, x]"), list_of(None)
        (array([1. , 0.5]), array([1. , 0.5, 2. ]), None, array([], dtype=float64))
    """
    if value is None or (isinstance(value, float) and value != value):
        return np.empty(0)
    if isinstance(value, str):
        cells = value.strip().strip("[]()").replace(",", " ").replace(";", " ").split()
        value = cells if all("_" not in cell for cell in cells) else "?"
    if not isinstance(value, list | tuple | np.ndarray) or any(isinstance(cell, bool) for cell in value):
        return None
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.ndim == 1 else None
