"""Fitted models that know what they were fitted to, and cross-fitting, so that no row is judged by itself."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from jepascore_core.outliers import baselines
from jepascore_core.outliers.methods import Method
from jepascore_core.outliers.rows import Floats, Identities, OutlierError, Rows, folds_of, mixed
from jepascore_core.text import count, plural

FEW_ROWS = 2000  # below, five folds, so that models see four fifths of the rows
MOST_ROWS = 20_000  # of a run; a seeded sample of more is fitted and judged
LEAST_FIT = 5


class LeakError(OutlierError):
    """A model was asked to judge a row that it was fitted to."""


class Fitted:
    """A method fitted to some rows. It remembers which, and refuses to judge any of them.

    Args:
        method: What to fit.
        rows: Rows to fit to; those without what the method needs are passed over.
        seed: Of methods that draw at random.

    Raises:
        OutlierError: The rows lack what the method needs, are too few, or do not vary.
    """

    def __init__(self, method: Method, rows: Rows, *, seed: int = 0) -> None:
        self.method = method
        if why := method.why_not(rows):
            raise OutlierError(f"{method.title} is not possible: {why}.")
        features = method.features(rows)
        held = np.isfinite(features).all(1)
        if method.fits and held.sum() < LEAST_FIT:
            raise OutlierError(
                f"{method.title} is not possible: {plural(int(held.sum()), 'row')} to fit to, {LEAST_FIT} are needed."
            )
        self.fitted_on = np.unique(rows.identities) if method.fits else rows.identities[:0]
        self._twins = _digests(features[held]) if method.fits else np.zeros(0, np.uint64)
        try:
            self._model = method.fit(features[held], rows.class_names[held], seed)
        except OutlierError as error:
            raise OutlierError(f"{method.title} is not possible: {error}.") from error
        except (ValueError, np.linalg.LinAlgError) as error:
            raise OutlierError(f"{method.title} is not possible: the fit failed ({error}).") from error
        self.notes, self.warnings = self._model.notes, self._model.warnings

    def judge(self, rows: Rows) -> Floats:
        """Values of rows that the model was not fitted to.

        Args:
            rows: (N,).

        Returns:
            (N,), higher means more in-distribution; NaN where a row lacks what the method needs.

        Raises:
            LeakError: One of the rows is among those that the model was fitted to.
            OutlierError: The rows are of another encoder, or lack what the method needs.
        """
        seen = np.isin(rows.identities, self.fitted_on)
        if seen.any():
            raise LeakError(
                f"{self.method.title} was fitted to {plural(int(seen.sum()), 'image')} that it was asked to judge, "
                f"such as {rows.keys[int(seen.argmax())]!r}: a model never judges what it was fitted to."
            )
        if why := self.method.why_not(rows):
            raise OutlierError(f"{self.method.title} cannot judge {rows.name}: {why}.")
        features = self.method.features(rows)
        held = np.isfinite(features).all(1)
        values = np.full(len(rows), np.nan)
        if held.any():
            values[held] = self._model.judge(features[held])
        return values

    def twins(self, rows: Rows) -> int:
        """How many rows have exactly the features of a row that the model was fitted to: copies under another key."""
        features = self.method.features(rows)
        return int(np.isin(_digests(features[np.isfinite(features).all(1)]), self._twins).sum())


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """In-distribution rows and others, each judged by a model that was not fitted to it.

    Attributes:
        method: What judged.
        values_in: Of the in-distribution rows, (N,), higher means more in-distribution; NaN where not judged.
        values_out: Of each set of other rows, (M,) each.
        fit_s: Seconds that fitting took, all folds together.
        judge_s: Seconds that judging the in-distribution rows took, and each set of others.
        rows_fitted: Rows that the models were fitted to, fold by fold; empty where nothing is fitted.
        rows: In words, which rows fitted and which were judged.
        notes: What was chosen.
        warnings: What a reader must know.
    """

    method: Method
    values_in: Floats = field(repr=False)
    values_out: tuple[Floats, ...] = field(repr=False)
    fit_s: float
    judge_s: tuple[float, ...]
    rows_fitted: tuple[int, ...]
    rows: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def fold_count(n: int) -> int:
    """Folds for so many in-distribution rows: five of few, two of many."""
    return 5 if n < FEW_ROWS else 2


def cross_fit(method: Method, inside: Rows, others: Sequence[Rows], *, seed: int = 0) -> Judged:
    """Judge rows by models that were fitted to other in-distribution rows.

    A row's fold is a seeded hash of its key. In-distribution rows of a fold are judged by the model that was fitted to
    the other folds; the other rows of that fold by the same model, so that both sides are treated alike.

    Args:
        method: What judges.
        inside: In-distribution rows.
        others: Sets of rows to tell from them; they may share images with ``inside``, which are then judged likewise.
        seed: Of the folds and the models.

    Returns:
        Values and what they rest on.

    Raises:
        OutlierError: The method is not possible with these rows.
    """
    if not method.fits:
        return _unfitted(method, inside, others)
    baselines.load()
    count_ = fold_count(len(inside))
    sets = [inside, *others]
    folds = [folds_of(rows.keys, count_, seed) for rows in sets]
    values = [np.full(len(rows), np.nan) for rows in sets]
    judge_s, fit_s, fitted_on = [0.0] * len(sets), 0.0, []
    warnings: dict[str, None] = {}
    notes: dict[str, None] = {}
    twins = [0] * len(sets)
    for fold in range(count_):
        mine = [np.flatnonzero(held == fold) for held in folds]
        if not any(len(places) for places in mine):
            continue
        begun = time.perf_counter()
        model = Fitted(method, inside.take(folds[0] != fold), seed=seed)
        fit_s += time.perf_counter() - begun
        fitted_on.append(len(model.fitted_on))
        for number, (rows, places) in enumerate(zip(sets, mine, strict=True)):
            begun = time.perf_counter()
            asked = rows.take(places)
            values[number][places] = model.judge(asked)
            judge_s[number] += time.perf_counter() - begun
            twins[number] += model.twins(asked)
        notes |= dict.fromkeys(model.notes)
        warnings |= dict.fromkeys(model.warnings)
    told = _one_of_a_kind(warnings)
    for rows, found in zip(sets, twins, strict=True):
        if found:
            told.append(
                f"{plural(found, 'row')} of {rows.name} {'is an exact copy' if found == 1 else 'are exact copies'} of "
                "a row that its model was fitted to, under another key."
            )
    said = (
        f"Each of the {count(len(inside))} in-distribution rows is judged by a model fitted to "
        f"{_span(fitted_on)} others: {len(fitted_on)} folds by a hash of the key, seed {seed}. Every other row is "
        "judged by one of the same models."
    )
    return Judged(
        method, values[0], tuple(values[1:]), fit_s, tuple(judge_s), tuple(fitted_on), said,
        tuple(_one_of_a_kind(notes)), tuple(told),
    )  # fmt: skip


def _unfitted(method: Method, inside: Rows, others: Sequence[Rows]) -> Judged:
    """Judge by a method that learns from no row."""
    values, judge_s = [], []
    for rows in (inside, *others):
        begun = time.perf_counter()
        values.append(Fitted(method, rows).judge(rows))
        judge_s.append(time.perf_counter() - begun)
    return Judged(method, values[0], tuple(values[1:]), 0.0, tuple(judge_s), (), "Nothing is fitted.")


def _one_of_a_kind(texts: Iterable[str]) -> list[str]:
    """Texts that differ in more than their numbers, which differ from fold to fold; the first of each kind."""
    kinds: dict[str, str] = {}
    for text in texts:
        kinds.setdefault(re.sub(r"[\d.\u202f]+", "#", text), text)
    return list(kinds.values())


def _span(counts: Sequence[int]) -> str:
    """About how many rows the models were fitted to."""
    low, high = min(counts), max(counts)
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def _digests(features: Floats) -> Identities:
    """A hash of each row's features, (N,): equal rows have equal ones."""
    exact = np.ascontiguousarray(features.astype(np.float32)).view(np.uint32).astype(np.uint64)
    digest = np.zeros(len(exact), np.uint64)
    for column in range(exact.shape[1]):
        digest = mixed(digest ^ exact[:, column], column)
    return digest
