"""Numbers with their 95 % intervals, for values of the same images before and after a change."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from jepascore_core.outliers.metrics import Interval, newcombe, placements

Floats = NDArray[np.float64]

Z95 = 1.959964  # two-sided 95 % of a normal
LEAST = 2  # images that an interval needs


@dataclass(frozen=True, slots=True)
class Apart:
    """How far the values of some images lie below those of others.

    Attributes:
        auroc: Chance that one of the first values exceeds one of the second; ties count half.
        direction: ``holds`` where the second values are measurably lower, ``inverted`` where they are higher, else
            ``undecided``.
    """

    auroc: Interval
    direction: str


def mean_interval(values: Floats) -> Interval:
    """Mean with Student's interval.

    Args:
        values: (N,), N ≥ 2.

    Returns:
        The mean of what these are a sample of.
    """
    from scipy.stats import t

    mean, reach = float(values.mean()), float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / sqrt(len(values)))
    return Interval(mean, mean - reach, mean + reach)


def share_interval(hits: float, n: int) -> Interval:
    """Share with Wilson's interval (1927), which does not vanish at 0 or 1.

    Args:
        hits: How many; halves are allowed.
        n: Of how many, ≥ 1.

    Returns:
        The share, 0 to 1.
    """
    share, z2 = hits / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(share, max(0.0, min(share, middle - reach)), min(1.0, max(share, middle + reach)))


def paired_apart(before: Floats, after: Floats) -> Apart:
    """AUROC of values before a change over those after it, of the same images.

    The interval is DeLong's with each image as a cluster of two values (Obuchowski, *Nonparametric analysis of
    clustered ROC curve data*, 1997): what an image adds before and after is not independent.

    Args:
        before: (N,), N ≥ 2, finite.
        after: (N,), of the same images in the same order.

    Returns:
        The AUROC and its direction.
    """
    wins, losses = placements(before, after)
    value = float(wins.mean())
    if value in (0.0, 1.0):  # no image varies, and the truth need not be so
        return _directed(Interval(value, *newcombe(value, len(before), len(after))))
    return _directed(around(value, float((wins + losses).var(ddof=1)) / len(before)))


def apart(inside: Floats, other: Floats) -> Apart:
    """AUROC of values of some images over those of others, with DeLong's interval.

    Args:
        inside: (N,), N ≥ 2, finite.
        other: (M,), M ≥ 2, finite, of other images.

    Returns:
        The AUROC and its direction.
    """
    wins, losses = placements(inside, other)
    value = float(wins.mean())
    if value in (0.0, 1.0):
        return _directed(Interval(value, *newcombe(value, len(inside), len(other))))
    return _directed(around(value, sum(float(side.var(ddof=1)) / len(side) for side in (wins, losses))))


def directed(interval: Interval) -> str:
    """What an AUROC's interval says of the claim that lower means stranger: holds, inverted or undecided."""
    return "holds" if interval.low > 0.5 else "inverted" if interval.high < 0.5 else "undecided"


def around(value: float, variance: float) -> Interval:
    """An AUROC with the normal interval of a variance, within 0 to 1."""
    reach = Z95 * sqrt(max(variance, 0.0))
    return Interval(value, max(0.0, value - reach), min(1.0, value + reach))


def _directed(interval: Interval) -> Apart:
    return Apart(interval, directed(interval))
