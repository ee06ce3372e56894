"""The plane that best shows some embeddings: their first two principal directions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plane:
    """Two orthonormal directions through a mean.

    Attributes:
        mean: (D,).
        directions: (2, D); the second is zero for D = 1.
        share: Share of the embeddings' variance along each, (2,), 0 to 1.
    """

    mean: Array
    directions: Array
    share: Array

    def project(self, embeddings: Array) -> Array:
        """Coordinates of embeddings in the plane.

        Args:
            embeddings: (N, D).

        Returns:
            (N, 2), in the embedding's units.
        """
        return (embeddings - self.mean) @ self.directions.T

    def held(self, path: Array) -> float:
        """Share of a path's squared distances from its own mean that lies in the plane.

        Args:
            path: (N, D).

        Returns:
            0 to 1; NaN for a path that does not move.
        """
        apart = path - path.mean(axis=0)
        whole = np.square(apart).sum()
        return float(np.square(apart @ self.directions.T).sum() / whole) if whole > 0 else float("nan")


def principal_plane(embeddings: Array) -> Plane:
    """First two principal directions of some embeddings.

    Args:
        embeddings: (N, D), N ≥ 1, finite.

    Returns:
        The plane; each direction's entry of largest size is positive.

    Raises:
        ValueError: ``embeddings`` is not (N, D) with N at least 1.
    """
    if embeddings.ndim != 2 or not embeddings.size:
        raise ValueError(f"A plane is laid through embeddings (N, D), not {embeddings.shape}.")
    mean = embeddings.mean(axis=0)
    apart = embeddings - mean
    variances, directions = np.linalg.eigh(apart.T @ apart)  # ascending
    variances, directions = variances[::-1][:2], directions[:, ::-1][:, :2].T
    directions = directions * np.where(np.take_along_axis(directions, _largest(directions), 1) < 0, -1.0, 1.0)
    share = np.maximum(variances, 0) / max(np.square(apart).sum(), np.finfo(float).tiny)
    missing = 2 - len(directions)
    return Plane(mean, np.pad(directions, ((0, missing), (0, 0))), np.pad(share, (0, missing)))


def _largest(directions: Array) -> NDArray[np.intp]:
    """Column of each row's entry of largest size, (rows, 1)."""
    return np.abs(directions).argmax(axis=1, keepdims=True)
