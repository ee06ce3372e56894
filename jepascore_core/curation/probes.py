"""Probes that read classes from embeddings. Each is fitted on some images and names the classes of others."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Probe = Callable[[Floats, Ints, Floats], Ints]

NEIGHBOURS = 5
TEMPERATURE = 0.07  # of the votes, as in DINO (arXiv:2104.14294)
STRENGTH = 1.0  # of the L2 penalty; not tuned, for tuning would need images of its own
_BLOCK_CELLS = 1 << 23


def linear_probe(fitted: Floats, classes: Ints, asked: Floats) -> Ints:
    """Multinomial logistic regression on embeddings that are standardised by the fitted rows alone.

    Args:
        fitted: Embeddings to fit, (N, D), N ≥ 1.
        classes: Their classes, (N,).
        asked: Embeddings (M, D).

    Returns:
        Classes of those, (M,). With one class among the fitted it is that one.
    """
    if len(np.unique(classes)) < 2:
        return np.full(len(asked), classes[0])
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    middle, spread = fitted.mean(axis=0, dtype=np.float64), fitted.std(axis=0, dtype=np.float64)
    spread[spread <= 1e-12 * np.abs(middle)] = 1.0  # a constant tells nothing; it becomes 0

    def standard(rows: Floats) -> Floats:
        return np.nan_to_num((rows - middle) / np.where(spread > 0, spread, 1.0)).astype(np.float32)

    probe = LogisticRegression(C=STRENGTH, tol=1e-3, max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where it stops it is near enough to be judged
        warnings.simplefilter("ignore", UserWarning)  # that there are many classes
        probe.fit(standard(fitted), classes)
    return probe.predict(standard(asked)).astype(np.int64)


def knn_probe(fitted: Floats, classes: Ints, asked: Floats) -> Ints:
    """Vote of the five most similar embeddings by cosine, weighed by exp(similarity / 0.07).

    Args:
        fitted: Embeddings (N, D), N ≥ 1.
        classes: Their classes, (N,).
        asked: Embeddings (M, D).

    Returns:
        Classes of those, (M,).
    """
    here, there = unit(fitted), unit(asked)
    step = max(1, _BLOCK_CELLS // len(here))
    blocks = [votes(there[start : start + step] @ here.T, classes) for start in range(0, len(there), step)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int64)


PROBES: dict[str, Probe] = {"linear": linear_probe, "knn": knn_probe}


def unit(embeddings: Floats) -> Floats:
    """Embeddings of length one; null ones stay null, (N, D)."""
    exact = embeddings.astype(np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    return (exact / np.where(length > 0, length, 1.0)).astype(np.float32)


def votes(likeness: Floats, classes: Ints) -> Ints:
    """Class that the nearest of each row vote for.

    Args:
        likeness: Cosine similarities, (M, N), N ≥ 1; −inf for one that has no vote.
        classes: Of the N, 0..C−1: (N,), or (M, N) where each row has its own.

    Returns:
        (M,).
    """
    k = min(NEIGHBOURS, likeness.shape[1])
    nearest = np.argpartition(-likeness, k - 1, axis=1)[:, :k]  # (M, k)
    values = np.take_along_axis(likeness, nearest, axis=1).astype(np.float64)
    best = values.max(axis=1, keepdims=True)
    weights = np.exp((values - np.where(np.isfinite(best), best, 0)) / TEMPERATURE)
    tally = np.zeros((len(likeness), int(classes.max()) + 1))
    names = np.take_along_axis(np.broadcast_to(classes, likeness.shape), nearest, axis=1)
    np.add.at(tally, (np.arange(len(likeness))[:, None], names), weights)
    return tally.argmax(axis=1)


def accuracy(classes: Ints, named: Ints) -> float:
    """Share of images whose class is named."""
    return float((classes == named).mean())


def balanced_accuracy(classes: Ints, named: Ints) -> float:
    """Mean over the classes that occur of the share of their images whose class is named."""
    sizes = np.bincount(classes)
    hits = np.bincount(classes[classes == named], minlength=len(sizes))
    return float((hits[sizes > 0] / sizes[sizes > 0]).mean())
