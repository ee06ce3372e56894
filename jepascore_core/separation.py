"""How far two sets of scores lie apart: AUROC with an interval, Kolmogorov–Smirnov distance, and the direction."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    The interval is DeLong's (1988), by the mid-rank method of Sun and Xu (2014).

    Args:
        reference: Scores (N,), nats, N ≥ 2.
        other: Scores (M,), nats, M ≥ 2.

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
    auroc, deviation = _delong(reference, other)
    low, high = max(0.0, auroc - _Z95 * deviation), min(1.0, auroc + _Z95 * deviation)
    direction = "lower" if low > 0.5 else "higher" if high < 0.5 else "not separated"
    return Separation(auroc, low, high, _ks(reference, other), direction)


def _delong(reference: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """AUROC of reference above other, and its standard deviation."""
    n, m = reference.size, other.size
    joint = _mid_ranks(np.concatenate([reference, other]))
    wins = (joint[:n] - _mid_ranks(reference)) / m  # (N,) share of others below each reference
    losses = 1 - (joint[n:] - _mid_ranks(other)) / n  # (M,) share of references above each other
    return float(wins.mean()), sqrt(wins.var(ddof=1) / n + losses.var(ddof=1) / m)


def _mid_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def _ks(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest vertical distance between two empirical distribution functions."""
    grid = np.concatenate([a, b])
    below_a = np.searchsorted(np.sort(a), grid, side="right") / a.size
    below_b = np.searchsorted(np.sort(b), grid, side="right") / b.size
    return float(np.abs(below_a - below_b).max())
