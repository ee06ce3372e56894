"""How well values tell in-distribution rows (the positive class, higher values) from others: metrics and intervals.

AUROC, AUPR and FPR at 95 % TPR are those of scikit-learn, ties included. Intervals come from a stratified bootstrap, in
which a resample is a weight for each row, so that values are sorted once; methods share their resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

from jepascore_core.outliers.rows import Floats
from jepascore_core.separation import separation

TPR = 0.95
LEVEL = 0.95
MOST_RESAMPLES, LEAST_RESAMPLES = 2000, 400
_RESAMPLED_ROWS = 6_000_000  # rows times resamples: a tenth of a second or two for each method
_BLOCK = 1_000_000  # weights at once

Weights = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """How well values tell two sets of rows apart.

    Attributes:
        auroc: Chance that an in-distribution row has the higher value; ties count half.
        aupr: Average precision of in-distribution rows.
        fpr95: Share of other rows that lie at or above the highest threshold which keeps 95 % of the in-distribution
            rows.
        direction: ``holds`` where lower values measurably mean outliers, ``inverted`` where higher ones do, else
            ``undecided``.
        n_in: In-distribution rows.
        n_out: Other rows.
        resamples: Bootstrap resamples behind the intervals.
        separated: Whether every row of one set lies beyond every row of the other, so that resamples cannot vary.
    """

    auroc: Interval
    aupr: Interval
    fpr95: Interval
    direction: str
    n_in: int
    n_out: int
    resamples: int
    separated: bool = False


def metrics(values_in: Floats, values_out: Floats, weights: tuple[Weights, Weights] | None = None) -> Metrics:
    """AUROC, AUPR and FPR95 with bootstrap intervals.

    Args:
        values_in: Of in-distribution rows, (N,), finite, N ≥ 2.
        values_out: Of other rows, (M,), finite, M ≥ 2.
        weights: How often each row occurs in each resample, (N, R) and (M, R); see ``resamples``. None draws them.

    Returns:
        The metrics.

    Raises:
        ValueError: There are fewer than two rows on a side.
    """
    _enough(values_in, values_out)
    weights = weights or resamples(len(values_in), len(values_out))
    once = np.ones((len(values_in), 1), np.uint8), np.ones((len(values_out), 1), np.uint8)
    exact = _weighted(values_in, values_out, once)[:, 0]
    drawn = _weighted(values_in, values_out, weights)
    tails = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, [tails, 100 - tails], axis=1)
    auroc, aupr, fpr95 = (
        Interval(*(float(number) for number in numbers)) for numbers in zip(exact, low, high, strict=True)
    )
    separated = bool(exact[0] in (0.0, 1.0))
    if separated:  # resamples are all alike, and the truth need not be
        auroc = Interval(auroc.value, *newcombe(auroc.value, len(values_in), len(values_out)))
        beyond = 1 - (1 - LEVEL) ** (1 / len(values_out))  # the rule of three
        fpr95 = Interval(0.0, 0.0, beyond) if fpr95.value == 0 else Interval(1.0, 1 - beyond, 1.0)
    direction = "holds" if auroc.low > 0.5 else "inverted" if auroc.high < 0.5 else "undecided"
    return Metrics(auroc, aupr, fpr95, direction, len(values_in), len(values_out), weights[0].shape[1], separated)


def auroc(values_in: Floats, values_out: Floats) -> float:
    """Chance that an in-distribution row has the higher value; ties count half."""
    return separation(values_in, values_out).auroc


def resamples(n_in: int, n_out: int, *, seed: int = 0, most: int = MOST_RESAMPLES) -> tuple[Weights, Weights]:
    """How often each row occurs in each stratified bootstrap resample.

    Args:
        n_in: In-distribution rows.
        n_out: Other rows.
        seed: Another seed, other resamples.
        most: Most resamples; fewer of many rows, but no fewer than 400.

    Returns:
        (n_in, R) and (n_out, R).
    """
    count = int(np.clip(_RESAMPLED_ROWS // max(n_in + n_out, 1), min(LEAST_RESAMPLES, most), most))
    generator = np.random.default_rng(seed)
    return _draw(generator, count, n_in), _draw(generator, count, n_out)


def roc(values_in: Floats, values_out: Floats, *, most: int = 400) -> tuple[Floats, Floats]:
    """The ROC curve, thinned to points that a picture shows.

    Args:
        values_in: Of in-distribution rows, (N,).
        values_out: Of other rows, (M,).
        most: About how many points to keep; corners are kept first.

    Returns:
        False positive rate and true positive rate, ascending from 0 to 1.
    """
    _, n_in, n_out = _tally(values_in, values_out)
    fpr, tpr = (np.append(0.0, np.cumsum(counts) / counts.sum()) for counts in (n_out, n_in))
    turns = np.ones(len(fpr), bool)  # a point between two on one straight line tells nothing
    turns[1:-1] = np.abs(np.diff(fpr)[:-1] * np.diff(tpr)[1:] - np.diff(fpr)[1:] * np.diff(tpr)[:-1]) > 1e-15
    fpr, tpr = fpr[turns], tpr[turns]
    if len(fpr) <= most:
        return fpr, tpr
    along = np.searchsorted(fpr + tpr, np.linspace(0, 2, most))
    kept = np.unique(np.clip(along, 0, len(fpr) - 1))
    return fpr[kept], tpr[kept]


def delong(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> tuple[float, float]:
    """Paired test of two methods' AUROC on the same rows: DeLong, DeLong and Clarke-Pearson (1988).

    Args:
        first: Values of in-distribution rows (N,) and of others (M,) under one method.
        second: The same rows under the other.

    Returns:
        Difference of the AUROCs, first minus second, and its two-sided p; p is 1 where no row is judged differently.
    """
    wins = [placements(*values) for values in (first, second)]
    apart_in, apart_out = (wins[0][side] - wins[1][side] for side in (0, 1))
    difference = float(apart_in.mean())
    variance = float(apart_in.var(ddof=1) / len(apart_in) + apart_out.var(ddof=1) / len(apart_out))
    if variance <= 1e-18:
        return difference, 1.0 if abs(difference) < 1e-12 else 0.0
    return difference, erfc(abs(difference) / sqrt(2 * variance))


def placements(values_in: Floats, values_out: Floats) -> tuple[Floats, Floats]:
    """Each row's share of wins: of others below it, (N,), and of in-distribution rows above it, (M,); ties half."""
    return _share_below(values_out, values_in), 1 - _share_below(values_in, values_out)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction (1979): p-values that hold for all comparisons together.

    Args:
        p_values: p of each comparison.

    Returns:
        Corrected p, at most 1.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected: dict[str, float] = {}
    least = 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda entry: entry[1])):
        least = max(least, min(1.0, (len(p_values) - place) * p))
        corrected[name] = least
    return corrected


def newcombe(auroc: float, n_in: int, n_out: int) -> tuple[float, float]:
    """Interval of an AUROC that does not vanish at 0 or 1: method 5 of Newcombe (2006).

    It is the range of true values whose variance after Hanley and McNeil (1982) allows for what was seen.

    Args:
        auroc: The AUROC.
        n_in: In-distribution rows.
        n_out: Other rows.

    Returns:
        Low and high.
    """
    half = (n_in + n_out) / 2 - 1

    def excess(truth: float) -> float:
        shares = (1 - truth) / (2 - truth) + truth / (1 + truth)
        variance = truth * (1 - truth) * (1 + half * shares) / (n_in * n_out)
        return (auroc - truth) ** 2 - 1.959964**2 * variance

    def end(inner: float, outer: float) -> float:  # excess is negative at the AUROC and positive at the outer end
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if excess(middle) <= 0 else (inner, middle)
        return (inner + outer) / 2

    return (end(auroc, 0.0) if auroc > 0 else 0.0), (end(auroc, 1.0) if auroc < 1 else 1.0)


def _enough(values_in: Floats, values_out: Floats) -> None:
    if min(len(values_in), len(values_out)) < 2:
        raise ValueError(f"Metrics need two rows on each side, not {len(values_in)} and {len(values_out)}.")


def _share_below(of: Floats, at: Floats) -> Floats:
    """Share of some values that lie below others, ties half."""
    ordered = np.sort(of)
    below, through = (np.searchsorted(ordered, at, side) for side in ("left", "right"))
    return (below + through) / (2 * len(of))


def _draw(generator: np.random.Generator, count: int, n: int) -> Weights:
    """Counts of n rows in ``count`` resamples of n, (n, count)."""
    weights = np.empty((n, count), np.uint8)
    for number in range(count):
        weights[:, number] = np.minimum(np.bincount(generator.integers(0, n, n), minlength=n), 255)
    return weights


def _tally(values_in: Floats, values_out: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Values that occur, descending, and how many rows of each side have them."""
    values, places = np.unique(-np.concatenate([values_in, values_out]), return_inverse=True)
    n = len(values_in)
    counts = [np.bincount(part, minlength=len(values)) for part in (places[:n], places[n:])]
    return -values, counts[0], counts[1]


def _weighted(values_in: Floats, values_out: Floats, weights: tuple[Weights, Weights]) -> Floats:
    """AUROC, AUPR and FPR95 of each resample, (3, R).

    All three need only know, at each value that an in-distribution row has, how many rows of either side lie above.
    """
    order_in, order_out = (np.argsort(-values, kind="stable") for values in (values_in, values_out))
    down_in, down_out = -values_in[order_in], -values_out[order_out]  # ascending, so that values descend
    last = np.flatnonzero(np.append(down_in[1:] != down_in[:-1], True))  # (V,) where each value ends
    above, through = (np.searchsorted(down_out, down_in[last], side) for side in ("left", "right"))
    count = weights[0].shape[1]
    found = np.empty((3, count))
    step = max(1, _BLOCK // (len(values_in) + len(values_out)))
    for start in range(0, count, step):
        part = slice(start, start + step)
        tp = _summed(weights[0][:, part], order_in)[last + 1]
        out = _summed(weights[1][:, part], order_out)
        found[:, part] = _of_counts(tp, out[above], out[through], out[-1])
    return found


def _summed(weights: Weights, order: NDArray[np.int64]) -> NDArray[np.float32]:
    """Running sums of weights in an order, from 0 to the sum of all, (N + 1, R); whole numbers below 2²⁴ are exact."""
    sums = np.empty((len(order) + 1, weights.shape[1]), np.float32)
    sums[0] = 0
    np.cumsum(weights[order], axis=0, dtype=np.float32, out=sums[1:])
    return sums


def _of_counts(
    tp: NDArray[np.float32], above: NDArray[np.float32], fp: NDArray[np.float32], all_out: NDArray[np.float32]
) -> Floats:
    """Metrics from counts at each in-distribution value, descending.

    Args:
        tp: In-distribution rows at or above it, (V, R).
        above: Other rows above it, (V, R).
        fp: Other rows at or above it, (V, R).
        all_out: Other rows, (R,).
    """
    all_in = tp[-1].astype(np.float64)
    here = np.diff(tp, axis=0, prepend=np.float32(0))
    beaten = all_out - (above + fp) / 2  # multiples of ½: exact
    auroc = np.einsum("vr,vr->r", beaten, here, dtype=np.float64) / (all_in * all_out)
    precision = tp.astype(np.float64) / np.maximum(tp + fp, 1)
    aupr = np.einsum("vr,vr->r", precision, here) / all_in
    reached = (tp >= np.ceil(TPR * all_in - 1e-9)).argmax(0)
    return np.stack([auroc, aupr, fp[reached, np.arange(fp.shape[1])] / all_out.astype(np.float64)])
