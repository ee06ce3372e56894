"""How far two sets of scores lie apart: AUROC with an interval, Kolmogorov–Smirnov distance, and the direction."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]

_Z95 = 1.959964  # two-sided 95 % of a normal


@dataclass(frozen=True, slots=True)
class Separation:
    """How one set of scores lies against a reference.

    Attributes:
        auroc: Chance that a random reference score exceeds a random other score; ties count half.
        low: Lower end of the 95 % interval of ``auroc``.
        high: Upper end of the 95 % interval of ``auroc``.
        ks: Largest distance between the two empirical distributions, 0..1.
        direction: ``lower`` or ``higher`` when the other scores measurably lie so, else ``not separated``.
    """

    auroc: float
    low: float
    high: float
    ks: float
    direction: str


def separation(reference: ArrayLike, other: ArrayLike) -> Separation:
    """Compare two sets of scores; nothing is assumed about which should be lower.

    The interval is DeLong's (1988): the variance of each image's share of wins. All three come from one merge of the
    sorted scores, as in Sun and Xu (2014), so that nothing is sampled however many there are.

    Args:
        reference: Scores (N,), nats, N ≥ 2; ascending ones are compared faster.
        other: Scores (M,), nats, M ≥ 2; likewise.

    Returns:
        AUROC with its 95 % interval, KS distance and the measured direction.

    Raises:
        ValueError: A set has fewer than two scores.

    Example:
        >>> separation([3.0, 4.0, 5.0], [0.0, 1.0, 2.0]).auroc
        1.0
    """
    reference = np.asarray(reference, dtype=np.float64)
    other = np.asarray(other, dtype=np.float64)
    if min(reference.size, other.size) < 2:
        raise ValueError(f"each set needs at least two scores, not {reference.size} and {other.size}")
    here, there = _counts(reference, other)
    auroc, deviation = _delong(here, there)
    low, high = max(0.0, auroc - _Z95 * deviation), min(1.0, auroc + _Z95 * deviation)
    direction = "lower" if low > 0.5 else "higher" if high < 0.5 else "not separated"
    return Separation(auroc, low, high, _ks(here, there), direction)


def _counts(reference: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[Counts, Counts]:
    """How many reference and how many other scores have each value that occurs, values ascending: (V,) each."""
    joint = np.concatenate([reference, other])
    order = np.argsort(joint, kind="stable")  # merges two ascending halves in one pass
    ordered = joint[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # (V,) where each value ends
    through_other = np.cumsum(order >= reference.size)[last]  # (V,)
    through_reference = last + 1 - through_other
    return np.diff(through_reference, prepend=0), np.diff(through_other, prepend=0)


def _delong(here: Counts, there: Counts) -> tuple[float, float]:
    """AUROC of reference above other, and its standard deviation."""
    n, m = int(here.sum()), int(there.sum())
    wins = (np.cumsum(there) - there / 2) / m  # (V,) share of others below a reference of this value
    losses = 1 - (np.cumsum(here) - here / 2) / n  # (V,) share of references above another of this value
    auroc = float(wins @ here / n)
    spread = here @ (wins - auroc) ** 2 / (n - 1) / n + there @ (losses - auroc) ** 2 / (m - 1) / m
    return auroc, sqrt(float(spread))


def _ks(here: Counts, there: Counts) -> float:
    """Largest vertical distance between two empirical distribution functions."""
    return float(np.abs(np.cumsum(here) / here.sum() - np.cumsum(there) / there.sum()).max())
