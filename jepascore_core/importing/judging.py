"""Judge each row of a table: its score under our rule, or why it has none."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepascore_core.errors import ImportedFileError
from jepascore_core.importing.columns import shown
from jepascore_core.importing.request import ImportRequest
from jepascore_core.importing.table import LONGEST_KEY, Table

_PIECE = 4_096  # rows
_NEGATIVE = "It has negative singular values."


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """N rows with a score or an error each: what a run is written from.

    Attributes:
        request: What was asked for.
        table: The file's rows.
        keys: Distinct, N.
        scores: (N,), nats; higher means likelier; NaN where there is an error.
        errors: Why a row has no score, by its position.
        class_names: Names of the classes, C of them, in natural order.
        labels: Place of each row's class, (N,); −1 without.
        views: T where the file has the scores of T views, else 1.
        differs: Largest difference in nats between the scores computed and those given, where there are both.
    """

    request: ImportRequest
    table: Table
    keys: Sequence[str]
    scores: NDArray[np.float64]
    errors: Mapping[int, str]
    class_names: Sequence[str]
    labels: NDArray[np.int32]
    views: int
    differs: float | None

    @property
    def from_spectra(self) -> bool:
        """Whether the scores were computed from singular values."""
        return self.table.singular_values is not None

    @property
    def turned(self) -> bool:
        """Whether the given scores' sign was turned."""
        return not self.from_spectra and self.request.direction == "out"

    @property
    def null_dim(self) -> int:
        """Structurally null directions."""
        return self.request.spec.null_dim

    def spectra(self, low: int, high: int) -> NDArray[np.float32] | None:
        """Singular values of some rows, descending; of a row with an error they mean nothing.

        Args:
            low: First row.
            high: Row after the last.

        Returns:
            (n, D), or None where there are none.
        """
        values = _sigma(self.table, low, high, self.request.log)
        with np.errstate(over="ignore"):
            return None if values is None else -np.sort(-values, axis=1).astype(np.float32)


def judge(table: Table, request: ImportRequest) -> Results:
    """Score each row, or say why it has no score.

    Args:
        table: The file's rows.
        request: What they are rows of.

    Returns:
        The results.

    Raises:
        ImportedFileError: Keys are not distinct, sizes do not fit, or not one row has a score.
    """
    where = request.file_name or request.path.name
    _check_sizes(table, request, where)
    keys, errors = _keys(table, where)
    scores = np.full(table.size, np.nan)
    for low, piece, problems in _scored(table, request):
        scores[low : low + len(piece)] = piece
        errors |= {place: reason for place, reason in problems.items() if place not in errors}
    negative = sum(reason == _NEGATIVE for reason in errors.values())
    if 2 * negative > table.size:
        raise ImportedFileError(
            f"{negative:,} of {table.size:,} spectra of {where} have negative values, which no singular value is: say "
            "--log if they are log σ."
        )
    views, scores = _of_views(table, scores, errors)
    scores[list(errors)] = np.nan
    for place in np.flatnonzero(np.isnan(scores)):
        errors.setdefault(int(place), "The file gives it no score.")
    errors |= {place: reason for place, reason in table.reasons.items() if place in errors}
    if len(errors) == table.size:
        raise ImportedFileError(
            f"None of the {table.size:,} rows of {where} has a score. {Counter(errors.values()).most_common(1)[0][0]}"
        )
    names, labels = _classes(table)
    return Results(request, table, keys, scores, errors, names, labels, views, _difference(table, scores))


def _check_sizes(table: Table, request: ImportRequest, where: str) -> None:
    """Refuse sizes that do not fit together.

    Raises:
        ImportedFileError: They do not.
    """
    spec, dim = request.spec, table.dim
    if table.singular_values is None:
        return
    if table.embeddings is not None and table.embeddings.shape[1] != dim:
        raise ImportedFileError(
            f"{where} has {dim} singular values but {table.embeddings.shape[1]} embedding coordinates an image; both "
            "are D."
        )
    if spec.embedding_dim not in (0, dim) and request.null_dim is None:
        raise ImportedFileError(
            f"{where} has {dim} singular values an image, and {spec.id} has D = {spec.embedding_dim}; say with "
            "--null-dim how many of them are null."
        )
    if spec.null_dim >= dim:
        raise ImportedFileError(f"A null dimension of {spec.null_dim} leaves nothing of {dim} singular values.")


def _keys(table: Table, where: str) -> tuple[list[str], dict[int, str]]:
    """A key for each row, and which rows have none.

    Raises:
        ImportedFileError: Two rows have one key, or one is enormous.
    """
    if table.keys is None:
        digits = len(str(table.size - 1))
        return [f"row {place:0{digits}d}" for place in range(table.size)], dict(table.problems)
    keys, errors, places = [], dict(table.problems), dict[str, int]()
    for place, key in enumerate(table.keys):
        if not key.strip():
            key = f"row {place + 1} without a key"
            errors.setdefault(place, "The file gives it no key.")
        if len(key) > LONGEST_KEY:
            raise ImportedFileError(
                f"The key of row {place + 1:,} of {where} has {len(key):,} letters; {LONGEST_KEY:,} is the most."
            )
        if (first := places.setdefault(key, place)) != place:
            several = " It holds several runs: import them one by one." if "run" in table.ignored else ""
            raise ImportedFileError(
                f"Rows {first + 1:,} and {place + 1:,} of {where} have one key, {shown(key)}.{several}"
            )
        keys.append(key)
    return keys, errors


def _scored(table: Table, request: ImportRequest) -> Iterator[tuple[int, NDArray[np.float64], dict[int, str]]]:
    """Scores and problems, a piece at a time, with the place of the first row."""
    for low in range(0, table.size, _PIECE):
        high = min(low + _PIECE, table.size)
        sigma = _sigma(table, low, high, request.log)
        if sigma is not None:
            yield low, *_score_spectra(sigma, request.spec.null_dim, low)
        elif table.scores is not None:
            given = table.scores[low:high]
            bad = {
                low + int(place): "The file gives it no score." if np.isnan(given[place]) else "Its score is infinite."
                for place in np.flatnonzero(~np.isfinite(given))
            }
            yield low, -given if request.direction == "out" else given, bad


def _sigma(table: Table, low: int, high: int, log: bool) -> NDArray[np.float64] | None:
    """σ of some rows as given, (n, D)."""
    if table.singular_values is None:
        return None
    values = np.asarray(table.singular_values[low:high], np.float64)
    with np.errstate(over="ignore"):
        return np.exp(values) if log else values


def _score_spectra(sigma: NDArray[np.float64], null_dim: int, low: int) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Eq. (5) of some spectra, and which of them have no score."""
    import torch

    from jepascore_core.score import jepa_score

    with np.errstate(invalid="ignore"):
        wrong = {
            _NEGATIVE: (sigma < 0).any(1),
            "All its singular values are zero.": (sigma == 0).all(1),
            "Its singular values are not all finite numbers.": ~(np.abs(sigma) < np.finfo(np.float32).max).all(1),
        }  # the last one says more than the others
    problems = {low + int(place): reason for reason, rows in wrong.items() for place in np.flatnonzero(rows)}
    scores = jepa_score(torch.from_numpy(np.nan_to_num(sigma)).clamp(min=0), null_dim=null_dim).numpy()
    return scores, problems


def _of_views(table: Table, scores: NDArray[np.float64], errors: dict[int, str]) -> tuple[int, NDArray[np.float64]]:
    """Eq. (4) where the file has the scores of several views beside the spectra of one."""
    given = table.extras.get("view_scores")
    if table.singular_values is None or given is None or given.shape[1] < 2:
        return 1, scores
    import torch

    from jepascore_core.score import views_score

    for place in np.flatnonzero(~np.isfinite(given).all(1)):
        errors.setdefault(int(place), "The file gives it no scores of views.")
    return int(given.shape[1]), views_score(torch.from_numpy(np.nan_to_num(np.asarray(given, np.float64)))).numpy()


def _classes(table: Table) -> tuple[list[str], NDArray[np.int32]]:
    """Names of the classes, numbers by their value, and each row's place among them."""
    if table.class_names is None:
        return [], np.full(table.size, -1, np.int32)
    names = sorted(set(table.class_names) - {""}, key=_natural)
    places = {name: place for place, name in enumerate(names)}
    return names, np.array([places.get(name, -1) for name in table.class_names], np.int32)


def _natural(name: str) -> tuple[int, int, str]:
    digits = name if name.isascii() and name.isdigit() and len(name) < 19 else ""
    return (0, int(digits), "") if digits else (1, 0, name)


def _difference(table: Table, scores: NDArray[np.float64]) -> float | None:
    """How far computed scores lie from given ones."""
    if table.singular_values is None or table.scores is None:
        return None
    apart = np.abs(scores - table.scores)
    apart = apart[np.isfinite(apart)]
    return float(apart.max()) if apart.size else None
