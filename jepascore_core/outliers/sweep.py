"""Where in the spectrum the signal lies: AUROC over the share that is dropped, over bands, and over eps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

import numpy as np
import pandas as pd

from jepascore_core.outliers import variants
from jepascore_core.outliers.metrics import delong, placements
from jepascore_core.outliers.rows import Floats, OutlierError, Rows, folds_of
from jepascore_core.separation import separation

DROPS = (0.0, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0)  # %
BANDS = 10
EPSILONS = tuple(float(f"1e{power}") for power in range(-10, 2))
FOLDS = 5
_Z95 = 1.959964
_LEAST = 2  # rows a side in a fold

Score = Callable[[Rows], Floats]


@dataclass(frozen=True, slots=True)
class ChosenDrop:
    """What the best share to drop is worth on rows that did not choose it.

    Attributes:
        auroc: Mean over folds of the AUROC of the q that the other folds chose; NaN where a fold lacks rows.
        low: Lower end of the 95 % interval.
        high: Upper end.
        plain: The same mean of the AUROC of q = 0, eq. (5).
        difference: ``auroc − plain``.
        difference_low: Lower end of its 95 % interval.
        difference_high: Upper end.
        chosen: q that each fold was judged with, %.
        tuned: The best AUROC when q is chosen on the rows that it is judged by, which flatters it.
        tuned_drop: That q, %.
    """

    auroc: float
    low: float
    high: float
    plain: float
    difference: float
    difference_low: float
    difference_high: float
    chosen: tuple[float, ...]
    tuned: float
    tuned_drop: float


@dataclass(frozen=True, slots=True)
class Sweeps:
    """AUROC of one set of other rows over what may be varied; frames with ``auroc``, ``low`` and ``high``.

    Attributes:
        drops: Over ``drop_top``, %.
        bands: Over ``band_low`` and ``band_high``, % of the σ from the largest.
        epsilons: Over ``eps``, for both ``convention`` s, ``eq5`` and ``listing1``; also ``spearman``, the rank
            correlation of the in-distribution scores with those of the paper's 1e−6.
        chosen: What the best q is worth.
    """

    drops: pd.DataFrame = field(repr=False)
    bands: pd.DataFrame = field(repr=False)
    epsilons: pd.DataFrame = field(repr=False)
    chosen: ChosenDrop


def sweeps(inside: Rows, other: Rows, *, drops: Sequence[float] = DROPS, seed: int = 0) -> Sweeps:
    """All three sweeps; nothing is fitted, intervals are DeLong's.

    Args:
        inside: In-distribution rows.
        other: Other rows.
        drops: Shares of the largest σ to drop, %.
        seed: Of the folds that choose q.

    Returns:
        The sweeps.

    Raises:
        OutlierError: Rows hold no singular values, or are too few.
    """
    inside, other = (_with_spectra(rows) for rows in (inside, other))
    return Sweeps(
        over_drops(inside, other, drops), over_bands(inside, other), over_eps(inside, other),
        choose_drop(inside, other, drops, seed=seed),
    )  # fmt: skip


def over_drops(inside: Rows, other: Rows, drops: Sequence[float] = DROPS) -> pd.DataFrame:
    """AUROC of the tail score for each q: ``drop_top`` (%), ``auroc``, ``low``, ``high``."""
    rows = [(q, *_apart(*(_tail(rows, q) for rows in (inside, other)))) for q in drops]
    return pd.DataFrame(rows, columns=["drop_top", "auroc", "low", "high"])


def over_bands(inside: Rows, other: Rows, bands: int = BANDS) -> pd.DataFrame:
    """AUROC of single bands of the spectrum: ``band_low``, ``band_high`` (%), ``auroc``, ``low``, ``high``.

    A spectrum of fewer σ than bands has a band for each σ.
    """
    rank = _rank(inside)
    edges = np.linspace(0, 100, min(bands, rank) + 1)
    rows = []
    for low, high in pairwise(edges):
        scores = (
            variants.jepa_score_band(_spectra(rows), low, high, null_dim=rows.null_dim) for rows in (inside, other)
        )
        rows.append((float(low), float(high), *_apart(*scores)))
    return pd.DataFrame(rows, columns=["band_low", "band_high", "auroc", "low", "high"])


def over_eps(inside: Rows, other: Rows, epsilons: Sequence[float] = EPSILONS) -> pd.DataFrame:
    """AUROC over the least σ that counts, in both conventions; see ``Sweeps.epsilons``."""
    found = []
    for convention in ("eq5", "listing1"):
        null_dims = [rows.null_dim if convention == "eq5" else 0 for rows in (inside, other)]
        base = _ranks(variants.jepa_score(_spectra(inside), null_dim=null_dims[0]))
        for eps in epsilons:
            scores = [
                variants.jepa_score(_spectra(rows), null_dim=null, eps=eps)
                for rows, null in zip((inside, other), null_dims, strict=True)
            ]
            found.append((convention, eps, *_apart(*scores), _correlation(base, _ranks(scores[0]))))
    return pd.DataFrame(found, columns=["convention", "eps", "auroc", "low", "high", "spearman"])


def choose_drop(inside: Rows, other: Rows, drops: Sequence[float] = DROPS, *, seed: int = 0) -> ChosenDrop:
    """Choose q on four of five folds, judge it on the fifth: what the best q is worth on rows that did not choose it.

    Args:
        inside: In-distribution rows.
        other: Other rows. They take part in the choice, so that this is how well q carries over to more of the same
            outliers, not to outliers of another kind.
        drops: Shares to choose from, %; 0 is among them.
        seed: Of the folds, which are a hash of the key.

    Returns:
        The AUROC, beside that of q = 0 on the same folds, and that of the q tuned on all rows.
    """
    scores = [np.stack([_tail(rows, q) for q in drops]) for rows in (inside, other)]  # (Q, N), (Q, M)
    folds = [folds_of(rows.keys, FOLDS, seed) for rows in (inside, other)]
    all_rows = _aurocs(scores[0], scores[1])
    best = int(all_rows.argmax())
    parts, chosen = [], []
    for fold in range(FOLDS):
        here = [mine == fold for mine in folds]
        if min(int(mask.sum()) for mask in here) < _LEAST or min(int((~mask).sum()) for mask in here) < _LEAST:
            continue
        q = int(_aurocs(*(side[:, ~mask] for side, mask in zip(scores, here, strict=True))).argmax())
        pairs = [(side[q][mask], side[0][mask]) for side, mask in zip(scores, here, strict=True)]
        parts.append(_judged_fold(pairs))
        chosen.append(float(drops[q]))
    if not parts:
        nan = float("nan")
        return ChosenDrop(nan, nan, nan, nan, nan, nan, nan, (), float(all_rows[best]), float(drops[best]))
    table = np.array(parts)
    share = table[:, 0] / table[:, 0].sum()
    value, plain, difference = (float(share @ table[:, column]) for column in (1, 2, 3))
    spread, spread_of_difference = (_Z95 * sqrt(float(share**2 @ table[:, column])) for column in (4, 5))
    return ChosenDrop(
        value, max(0.0, value - spread), min(1.0, value + spread), plain, difference,
        difference - spread_of_difference, difference + spread_of_difference, tuple(chosen), float(all_rows[best]),
        float(drops[best]),
    )  # fmt: skip


def _judged_fold(pairs: Sequence[tuple[Floats, Floats]]) -> tuple[float, ...]:
    """Of one fold: its weight, AUROC of the chosen q and of q = 0, their difference, and two variances."""
    (chosen_in, plain_in), (chosen_out, plain_out) = pairs
    value, plain = separation(chosen_in, chosen_out), separation(plain_in, plain_out)
    difference, _ = delong((chosen_in, chosen_out), (plain_in, plain_out))
    wins, base = placements(chosen_in, chosen_out), placements(plain_in, plain_out)
    variance = sum(float(side.var(ddof=1)) / len(side) for side in wins)
    apart = sum(float((a - b).var(ddof=1)) / len(a) for a, b in zip(wins, base, strict=True))
    return len(chosen_in) * len(chosen_out), value.auroc, plain.auroc, difference, variance, apart


def _aurocs(inside: Floats, other: Floats) -> Floats:
    """AUROC of each line of scores, (Q,)."""
    return np.array([separation(a, b).auroc for a, b in zip(inside, other, strict=True)])


def _apart(inside: Floats, other: Floats) -> tuple[float, float, float]:
    """AUROC with DeLong's interval."""
    found = separation(inside, other)
    return found.auroc, found.low, found.high


def _tail(rows: Rows, drop_top: float) -> Floats:
    return variants.jepa_score_tail(_spectra(rows), drop_top=drop_top, null_dim=rows.null_dim)


def _spectra(rows: Rows) -> Floats:
    assert rows.spectra is not None  # ``_with_spectra`` asks first
    return rows.spectra  # type: ignore[return-value]


def _rank(rows: Rows) -> int:
    return _spectra(rows).shape[1] - rows.null_dim


def _with_spectra(rows: Rows) -> Rows:
    """The rows that hold finite singular values.

    Raises:
        OutlierError: There are fewer than two.
    """
    if rows.spectra is None:
        raise OutlierError(f"{rows.name} holds no singular values.")
    held = np.asarray(np.isfinite(rows.spectra).all(axis=1))
    if held.sum() < _LEAST:
        raise OutlierError(f"{rows.name} has fewer than {_LEAST} rows with singular values.")
    return rows if held.all() else rows.take(held)


def _ranks(values: Floats) -> Floats:
    """Ranks, ties shared."""
    from scipy.stats import rankdata

    return rankdata(values)


def _correlation(a: Floats, b: Floats) -> float:
    """Pearson's correlation of ranks; NaN where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = sqrt(float((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")
