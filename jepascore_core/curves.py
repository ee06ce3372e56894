"""Curves of scores: what a distribution is drawn from. Scores come in order, so that time hardly grows with images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

MOST_DOTS = 3000  # of a figure; more would only overprint, and each is sent to the browser and back
_LEAST_WIDTH = 1e-3  # nats; scores that differ by less, or by rounding alone, are one peak


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Scores that are drawn as one curve.

    Attributes:
        panel: Title of the panel in which it is drawn.
        scale: Encoder; panels with one scale share their range.
        name: What is written beside it.
        colour: ``#RRGGBB``.
        run: Folder name of the run.
        scores: Nats, ascending and finite, (N,); a curve that is drawn has one at least.
        ranks: Which of them are drawn as dots too, ascending, (M,).
        keys: Keys of those images, M of them.
    """

    panel: str
    scale: str
    name: str
    colour: str
    run: str
    scores: Floats = field(repr=False, default_factory=lambda: np.zeros(0))
    ranks: Places = field(repr=False, default_factory=lambda: np.zeros(0, np.int64))
    keys: Sequence[str] = field(repr=False, default=())


class Span(NamedTuple):
    """A range of scores in one of the panels.

    Attributes:
        panel: Number of the panel, from 0.
        low: Nats, included.
        high: Nats, included.
    """

    panel: int
    low: float
    high: float


def panels(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Curves of each panel, both in the order in which they come."""
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.panel, []).append(curve)
    return list(found.values())


def finite(scores: Floats) -> slice:
    """Where ascending scores are finite; NaN stands last."""
    return slice(int(np.searchsorted(scores, -np.inf, "right")), int(np.searchsorted(scores, np.inf, "left")))


def between(scores: Floats, low: float, high: float) -> slice:
    """Where ascending scores lie between two values, both included."""
    return slice(int(np.searchsorted(scores, low, "left")), int(np.searchsorted(scores, high, "right")))


def evenly(n: int, most: int) -> Places:
    """Evenly spaced ranks, both ends among them.

    Args:
        n: How many there are.
        most: How many to take at most.

    Returns:
        Ascending, (min(n, most),).

    Example:
        >>> evenly(9, 3).tolist()
        [0, 4, 8]
    """
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(np.int64)


def fair_shares(sizes: Sequence[int], most: int) -> list[int]:
    """Divide a number of dots among curves: small curves get all they have, the others equal parts of the rest.

    Args:
        sizes: Images of each curve.
        most: Dots of all together; a curve with images gets one at least.

    Returns:
        Dots of each curve.

    Example:
        >>> fair_shares([10, 500, 90], 100)
        [10, 45, 45]
    """
    shares = [0] * len(sizes)
    for left, place in enumerate(sorted(range(len(sizes)), key=lambda place: sizes[place])):
        shares[place] = min(sizes[place], max(1, (most - sum(shares)) // (len(sizes) - left)))
    return shares


def quantile(scores: Floats, share: float) -> float:
    """Quantile of ascending scores, linear between neighbours; NaN of none.

    Args:
        scores: Nats, ascending, (N,).
        share: 0..1.

    Returns:
        Nats.

    Example:
        >>> quantile(np.array([1.0, 2.0, 4.0]), 0.75)
        3.0
    """
    if not len(scores):
        return float("nan")
    at = share * (len(scores) - 1)
    below = int(at)
    step = float(scores[min(below + 1, len(scores) - 1)]) - float(scores[below])
    return float(scores[below]) + (at - below) * step


def lowest(curves: Sequence[Curve], share: float) -> float:
    """Score up to which a share of all images of some curves lies.

    Args:
        curves: The curves.
        share: 0..1.

    Returns:
        Nats; the smallest score with at least that share, and at least one image, at or below it.
    """
    wanted = max(1, int(np.ceil(share * sum(len(curve.scores) for curve in curves))))
    low = np.concatenate([curve.scores[:wanted] for curve in curves])
    return float(np.partition(low, wanted - 1)[wanted - 1])


def kernel_density(scores: Floats, low: float, high: float, *, points: int = 400) -> tuple[Floats, Floats]:
    """Gaussian kernel density on a grid, with Silverman's bandwidth.

    Args:
        scores: Nats, ascending, (N,), N ≥ 1.
        low: Lowest value to cover; the grid goes three bandwidths further.
        high: Highest value to cover.
        points: Length of the grid.

    Returns:
        Grid (points,) in nats and density (points,) per nat; it integrates to 1.
    """
    deviation = float(scores.std())
    quartiles = (quantile(scores, 0.75) - quantile(scores, 0.25)) / 1.349
    spread = min(deviation, quartiles) or deviation
    width = max(0.9 * spread * len(scores) ** -0.2, (high - low) / points, _LEAST_WIDTH)
    grid = np.linspace(low - 3 * width, high + 3 * width, points)
    step = grid[1] - grid[0]
    counts = bin_counts(scores, np.append(grid - step / 2, grid[-1] + step / 2))
    reach = np.arange(-int(4 * width / step) - 1, int(4 * width / step) + 2) * step
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="full")
    start = len(kernel) // 2
    return grid, density[start : start + points] / (len(scores) * step)


def bin_counts(scores: Floats, edges: Floats) -> Places:
    """How many ascending scores fall into each bin; a bin holds its lower edge, the last one its upper edge too.

    Args:
        scores: Nats, ascending, (N,).
        edges: Ascending, (bins + 1,).

    Returns:
        (bins,).
    """
    below = np.searchsorted(scores, edges, side="left")
    below[-1] = np.searchsorted(scores, edges[-1], side="right")
    return np.diff(below)


def bin_edges(curves: Sequence[Curve]) -> Floats:
    """Edges of the bins that some curves share: more images, more bins, from 8 to 80.

    Args:
        curves: Curves of one panel.

    Returns:
        Ascending, (bins + 1,).
    """
    low, high = min(curve.scores[0] for curve in curves), max(curve.scores[-1] for curve in curves)
    if low == high:
        low, high = low - 0.5, high + 0.5
    images = sum(len(curve.scores) for curve in curves)
    return np.linspace(low, high, int(np.clip(np.sqrt(images) * 1.6, 8, 80)) + 1)
