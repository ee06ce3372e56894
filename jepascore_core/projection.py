"""Embeddings in two dimensions: principal directions or UMAP, and how far such a map can be trusted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jepascore_core.plane import principal_plane

Floats = NDArray[np.float32]

LEAST_FOR_UMAP = 10  # images; with fewer there is no neighbourhood to keep
_TRUST_NEIGHBOURS = 10
_TRUST_IMAGES = 2000  # its time grows with their square


def pca(embeddings: Floats) -> tuple[Floats, tuple[float, float]]:
    """Project embeddings on their first two principal directions.

    Args:
        embeddings: (N, D), N ≥ 1, finite.

    Returns:
        Coordinates (N, 2), in the embedding's units, and the share of the variance along each direction, 0 to 1.
        A direction's sign is such that its entry of largest size is positive.

    Raises:
        ValueError: ``embeddings`` is not (N, D) with N at least 1.
    """
    exact = embeddings.astype(np.float64)
    plane = principal_plane(exact)
    return plane.project(exact).astype(np.float32), (float(plane.share[0]), float(plane.share[1]))


def umap(embeddings: Floats, *, neighbours: int = 15, seed: int = 0) -> Floats:
    """Lay embeddings out so that near neighbours stay near: UMAP (arXiv:1802.03426) of Euclidean distances.

    The first call of a process takes many seconds, in which the library compiles itself.

    Args:
        embeddings: (N, D), finite.
        neighbours: How many neighbours of each embedding are kept near, ≥ 2; at most N − 1 are.
        seed: The same embeddings and seed give the same map.

    Returns:
        Coordinates (N, 2) without unit.

    Raises:
        ValueError: There are fewer than ``LEAST_FOR_UMAP`` embeddings, or UMAP cannot lay them out.
    """
    if len(embeddings) < LEAST_FOR_UMAP:
        raise ValueError(f"UMAP needs at least {LEAST_FOR_UMAP} images, not {len(embeddings)}.")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and that groups lie apart
        from umap import UMAP

        layout = UMAP(n_neighbors=min(neighbours, len(embeddings) - 1), random_state=seed, n_jobs=1)
        found = np.asarray(layout.fit_transform(embeddings), dtype=np.float32)
    if not np.isfinite(found).all():
        raise ValueError("UMAP gives no map of these embeddings: they are too far apart for its arithmetic.")
    return found


def trust(embeddings: Floats, xy: Floats, *, seed: int = 0) -> float | None:
    """How many of the ten nearest neighbours on a map are near in the embedding too: trustworthiness.

    1 is all; what is not is weighed by how far away it truly is; a map at random has about 0.5. See Venna and Kaski,
    *Neighborhood preservation in nonlinear projection methods*, 2001.

    Args:
        embeddings: (N, D).
        xy: The map, (N, 2).
        seed: Of the sample of at most 2,000 images that is judged.

    Returns:
        0 to 1; None for fewer than 30 images.
    """
    if len(xy) < 3 * _TRUST_NEIGHBOURS:
        return None
    from sklearn.manifold import trustworthiness

    some = np.random.default_rng(seed).permutation(len(xy))[:_TRUST_IMAGES]
    return float(trustworthiness(embeddings[some], xy[some], n_neighbors=_TRUST_NEIGHBOURS))


def shares(sizes: Sequence[int], most: int) -> list[int]:
    """Divide a sample among groups: the same for each, and what small groups leave goes to the larger ones.

    Args:
        sizes: Members of each group.
        most: Members of the sample.

    Returns:
        Members of the sample from each group; at most ``most`` together, and all that there are if those are fewer.

    Example:
        >>> shares([100, 5, 100], 25)
        [10, 5, 10]
    """
    taken = [0] * len(sizes)
    left = most
    for groups_left, group in zip(range(len(sizes), 0, -1), np.argsort(sizes, kind="stable"), strict=True):
        taken[group] = min(sizes[group], left // groups_left)
        left -= taken[group]
    return taken


def inside(xy: Floats, corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points lie within a polygon: a ray from there crosses its outline an odd number of times.

    Args:
        xy: Points, (N, 2).
        corners: The polygon, (K, 2), closed by itself; it may cross itself.

    Returns:
        (N,); none for fewer than three corners.
    """
    found = np.zeros(len(xy), dtype=bool)
    if len(corners) < 3:
        return found
    low, high = corners.min(axis=0), corners.max(axis=0)
    near = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1))
    x, y = xy[near].astype(np.float64).T
    odd = np.zeros(len(near), dtype=bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            odd ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    found[near] = odd
    return found
