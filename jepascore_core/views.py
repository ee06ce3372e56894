"""How the estimate of log p over augmented views, eq. (4), settles as views are added.

Eq. (4) says log p(x) = −log E[1 / Π σ_k], the mean taken over views; its estimate from t of them is
−log (1/t) Σ exp(−score). The view with the lowest score weighs most, so that the estimate drifts before it settles.

Letters: N images, T views. View 0 is the plain image, so that t = 1 is eq. (5).
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 400  # of the images, for the intervals
PAIRS = 8  # random pairs of disjoint sets of views; their correlations are averaged
_SIGNIFICANCE = [0.025, 0.975]


def running_estimates(view_scores: Array) -> Array:
    """Eq. (4) over the first t views, for t = 1..T, in log-space.

    Args:
        view_scores: (N, T), nats.

    Returns:
        (N, T), nats; the first column is the first view's score exactly, the last is ``views_score``.

    Raises:
        ValueError: ``view_scores`` is not (N, T) with T at least 1.

    Example:
        >>> running_estimates(np.array([[2.5, 2.5]])).tolist()
        [[2.5, 2.5]]
    """
    if view_scores.ndim != 2 or not view_scores.shape[1]:
        raise ValueError(f"Scores must be (N, T) with T at least 1, not {view_scores.shape}.")
    counts = np.arange(1, view_scores.shape[1] + 1)
    return np.log(counts) - np.logaddexp.accumulate(-view_scores.astype(np.float64), axis=1)


def effective_views(view_scores: Array) -> Array:
    """How many views the mean of eq. (4) rests on: 1 / Σ w², w the views' shares of it.

    Args:
        view_scores: (N, T), nats.

    Returns:
        (N,), from 1 (one view decides) to T (all weigh alike).
    """
    lowest = view_scores.min(axis=1, keepdims=True)
    weights = np.exp(lowest - view_scores)
    return weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)


def settling(view_scores: Array, *, seed: int = 0) -> pd.DataFrame:
    """How far the estimate from the first t views lies from that of all T.

    Args:
        view_scores: (N, T), N ≥ 1, nats.
        seed: Seed of the bootstrap over images.

    Returns:
        t (1..T); median, low, high: median and quantiles 5 and 95 % over images of |estimate_t − estimate_T|, nats;
        median_low, median_high: 95 % bootstrap interval of the median. All are 0 at t = T by construction.
    """
    estimates = running_estimates(view_scores)
    apart = np.abs(estimates - estimates[:, -1:])  # (N, T)
    low, median, high = np.quantile(apart, [0.05, 0.5, 0.95], axis=0)
    dice = np.random.default_rng(seed)
    medians = [np.median(apart[dice.integers(0, len(apart), len(apart))], axis=0) for _ in range(RESAMPLES)]
    median_low, median_high = np.quantile(medians, _SIGNIFICANCE, axis=0)
    t = np.arange(1, apart.shape[1] + 1)
    columns = {"low": low, "median": median, "high": high, "median_low": median_low, "median_high": median_high}
    return pd.DataFrame({"t": t, **columns})


def ranking(view_scores: Array, *, seed: int = 0) -> pd.DataFrame:
    """How the order of the images settles: Spearman correlations of estimates from t views.

    The first t of the T views share views with all T, so that correlation is 1 at t = T whatever the views are worth.
    Two disjoint sets of t views share none: their correlation says how far t views alone determine the order.

    Args:
        view_scores: (N, T), N ≥ 3, nats.
        seed: Seed of the sets and of the bootstrap.

    Returns:
        t (1..T); first: of the first t views with all T; disjoint: of two disjoint random sets of t of the T views,
        mean over ``PAIRS`` draws, NaN for 2t > T; and of each, ``_low`` and ``_high``: its 95 % interval, from
        resampling images (among which each keeps its rank in the whole sample).

    Raises:
        ValueError: There are fewer than three images.
    """
    if len(view_scores) < 3:
        raise ValueError(f"A ranking needs at least 3 images, not {len(view_scores)}.")
    dice = np.random.default_rng(seed)
    weights = np.ones((1 + RESAMPLES, len(view_scores)))  # how often each image is drawn; first as it is
    weights[1:] = dice.multinomial(len(view_scores), np.full(len(view_scores), 1 / len(view_scores)), RESAMPLES)
    views = view_scores.shape[1]
    estimates = running_estimates(view_scores)
    first = _spearman(estimates, np.repeat(estimates[:, -1:], views, axis=1), weights)  # (1 + R, T)
    disjoint = np.full_like(first, np.nan)
    draws = [_disjoint(view_scores, dice) for _ in range(PAIRS)]
    if views > 1:
        disjoint[:, : views // 2] = np.mean([_spearman(one, other, weights) for one, other in draws], axis=0)
    columns: dict[str, Array] = {}
    for name, values in (("first", first), ("disjoint", disjoint)):
        low, high = np.quantile(values[1:], _SIGNIFICANCE, axis=0)
        columns |= {name: values[0], f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame({"t": np.arange(1, views + 1), **columns})


def moves(view_scores: Array) -> pd.DataFrame:
    """Where each image stands by eq. (5) and by eq. (4).

    Args:
        view_scores: (N, T), N ≥ 1, nats.

    Returns:
        one, all: percentile (0..100, mid-rank) among the images by the plain image alone and over all views;
        move: their difference, percentile points. In the order of the images.
    """
    estimates = running_estimates(view_scores)
    one, all_views = (100 * (_ranks(estimates[:, [column]])[:, 0] - 0.5) / len(estimates) for column in (0, -1))
    return pd.DataFrame({"one": one, "all": all_views, "move": all_views - one})


def _disjoint(view_scores: Array, dice: np.random.Generator) -> tuple[Array, Array]:
    """Running estimates (N, T // 2) over the two halves of one random order of the views."""
    order = dice.permutation(view_scores.shape[1])
    half = len(order) // 2
    if not half:
        return view_scores[:, :0], view_scores[:, :0]
    return running_estimates(view_scores[:, order[:half]]), running_estimates(view_scores[:, order[half : 2 * half]])


def _spearman(one: Array, other: Array, weights: Array) -> Array:
    """Correlation of the ranks of each column (N, K) with those of its partner, under weights (R, N): (R, K)."""
    a, b = _ranks(one), _ranks(other)
    total = weights.sum(axis=1, keepdims=True)

    def mean(values: Array) -> Array:
        return weights @ values / total

    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    covariance = mean(a * b) - mean(a) * mean(b)
    spread = (mean(a * a) - mean(a) ** 2) * (mean(b * b) - mean(b) ** 2)
    with np.errstate(invalid="ignore"):  # images that all tie have no order
        return covariance / np.sqrt(spread)


def _ranks(values: Array) -> Array:
    """Ranks (1..N, ties share their mean) down each column."""
    return pd.DataFrame(values).rank().to_numpy()
