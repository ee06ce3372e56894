"""How far one set of embeddings lies among another: density and coverage, with intervals from the images.

Naeem et al., *Reliable Fidelity and Diversity Metrics for Generative Models*, ICML 2020 (arXiv:2002.09797).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

NEIGHBOURS = 5  # k of the paper
GROUPS = 20  # of the jackknife
FEWEST = 2 * GROUPS  # images on either side
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its 95 % interval.

    Attributes:
        value: The number; NaN where it is not defined.
        low: Lower end; NaN where there is none.
        high: Upper end.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far a reference lies among the images of a domain.

    Attributes:
        coverage: Share of the domain's images that have an image of the reference nearer than their k-th neighbour in
            the domain, 0..1.
        density: Mean number of such balls that an image of the reference lies in, by k; 1 if the two are alike, not
            bounded by 1.
        expected: Coverage to expect if the two were alike.
        n: Images of each that were compared.
        k: Neighbour whose distance is the radius.
    """

    coverage: Measured
    density: Measured
    expected: float
    n: int
    k: int = NEIGHBOURS


def coverage(domain: Floats, reference: Floats, *, most: int = 2000, seed: int = 0) -> Coverage:
    """Density and coverage of a domain by a reference, Euclidean, with as many images of either.

    Intervals by the jackknife over 20 random groups of images of both sides: they cover other images of the same two
    sources.

    Args:
        domain: Embeddings (N, D), finite.
        reference: Embeddings (M, D), finite.
        most: Images of each that are compared.
        seed: Of the images that are compared, and of the groups.

    Returns:
        Both measures.

    Raises:
        ValueError: The dimensions differ, or a side has fewer than 40 images.

    Example:
        >>> far = np.arange(80, dtype=np.float32)[:, None]
        >>> coverage(far, far + 1e6).coverage.value
        0.0
    """
    if domain.shape[1:] != reference.shape[1:]:
        raise ValueError(f"embeddings of {domain.shape[1:]} and {reference.shape[1:]} numbers cannot be compared")
    n = min(len(domain), len(reference), most)
    if n < FEWEST:
        raise ValueError(f"Coverage needs at least {FEWEST} images of each, not {len(domain)} and {len(reference)}.")
    rng = np.random.default_rng(seed)
    here, there = (side[rng.permutation(len(side))[:n]].astype(np.float64) for side in (domain, reference))
    within, across = _distances(here, here), _distances(here, there)  # (N, N), (N, M)
    np.fill_diagonal(within, np.inf)
    group = rng.permutation(np.arange(n) % GROUPS)

    def both(left: NDArray[np.bool_]) -> NDArray[np.float64]:
        radius = np.partition(within[np.ix_(left, left)], NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
        inside = across[np.ix_(left, left)] <= radius[:, None]
        return np.array([inside.any(axis=1).mean(), inside.sum() / (NEIGHBOURS * left.sum())])

    found, error = jackknife(both, group)
    low, high = ends(found[0], error[0], 1.0)
    exact = wilson(round(found[0] * n), n)  # a share of 0 or 1 is not exactly so
    return Coverage(
        coverage=Measured(float(found[0]), min(low, exact.low), max(high, exact.high)),
        density=Measured(float(found[1]), *(ends(found[1], error[1], float("inf")) if error[1] else ())),
        expected=expected_coverage(n, n, NEIGHBOURS),
        n=n,
    )


def expected_coverage(n: int, m: int, k: int) -> float:
    """Coverage of N images by M others of the same distribution (Naeem et al., Lemma 2).

    An image is not covered if its k nearest among the N − 1 + M others are all of the N − 1.

    Args:
        n: Images of the domain, N > k.
        m: Images of the reference.
        k: Neighbour whose distance is the radius.

    Returns:
        1 − Π_{i<k} (N − 1 − i) / (N + M − 1 − i).

    Example:
        >>> round(expected_coverage(1000, 1000, 5), 3)
        0.969
    """
    steps = np.arange(k)
    return float(1 - np.prod((n - 1 - steps) / (n + m - 1 - steps)))


def jackknife(
    measure: Callable[[NDArray[np.bool_]], NDArray[np.float64]], group: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A measure of some images, and its standard error from leaving out one group after another.

    Efron and Stein 1981; by groups as in Shao and Tu, *The Jackknife and Bootstrap*, 1995, section 2.3.

    Args:
        measure: Takes which images are left in, (N,), and returns K numbers.
        group: Group of each image, 0..G−1, (N,).

    Returns:
        The numbers of all images, and their standard errors, (K,) each.
    """
    whole = measure(np.ones(len(group), dtype=bool))
    groups = int(group.max()) + 1
    without = np.array([measure(group != one) for one in range(groups)])  # (G, K)
    spread = np.square(without - without.mean(axis=0)).sum(axis=0)
    return whole, np.sqrt(spread * (groups - 1) / groups)


def wilson(hits: int, n: int) -> Measured:
    """A share with Wilson's interval.

    Args:
        hits: Of n.
        n: At least 1.

    Returns:
        The share.
    """
    share = hits / n
    middle = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    return Measured(share, max(0.0, middle - half), min(1.0, middle + half))


def ends(value: float, error: float, most: float) -> tuple[float, float]:
    """Ends of a 95 % interval from the jackknife's error: t with as many degrees of freedom as groups less one."""
    from scipy.stats import t

    half = float(t.ppf(0.975, GROUPS - 1)) * float(error)
    return max(0.0, float(value) - half), min(most, float(value) + half)


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared Euclidean distances, (N, M)."""
    from scipy.spatial.distance import cdist

    return cdist(a, b, "sqeuclidean")
