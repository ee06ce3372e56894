"""Scores from stored spectra, (N, D) in descending order, in float64 and nats; higher means likelier.

Nothing is fitted here. The two conventions of the paper, and what may be made of the same singular values by leaving
some of them out.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Spectra = NDArray[np.floating]

EPS = 1e-6  # Listing 1 of the paper
DROP_TOP = 10.0  # %


def jepa_score(spectra: Spectra, *, null_dim: int = 0, eps: float = EPS) -> Floats:
    """JEPA-SCORE, eq. (5): Σ log max(σ_k, eps) up to the rank.

    Args:
        spectra: σ, (N, D), descending.
        null_dim: Structurally null directions: this many of the smallest σ are left out.
        eps: Least σ that counts.

    Returns:
        (N,), nats; NaN where a σ is.

    Example:
        >>> jepa_score(np.array([[np.e, 1.0, 0.0]]), null_dim=1).round(6).tolist()
        [1.0]
    """
    return _log(spectra, null_dim, eps).sum(1)


def jepa_score_listing1(spectra: Spectra, *, eps: float = EPS) -> Floats:
    """The paper's code: clip at eps, sum over all D.

    Args:
        spectra: σ, (N, D).
        eps: Least σ that counts.

    Returns:
        (N,), nats.
    """
    return _log(spectra, 0, eps).sum(1)


def jepa_score_tail(spectra: Spectra, *, drop_top: float = DROP_TOP, null_dim: int = 0, eps: float = EPS) -> Floats:
    """Eq. (5) without the largest singular values.

    Args:
        spectra: σ, (N, D), descending.
        drop_top: Share of the D − null_dim largest σ that is left out, %, 0 ≤ q < 100; see ``dropped``.
        null_dim: Structurally null directions.
        eps: Least σ that counts.

    Returns:
        (N,), nats.

    Example:
        >>> jepa_score_tail(np.exp([[4.0, 3.0, 2.0, 1.0]]), drop_top=25).round(6).tolist()
        [6.0]
    """
    logs = _log(spectra, null_dim, eps)
    return logs[:, dropped(logs.shape[1], drop_top) :].sum(1)


def jepa_score_band(spectra: Spectra, low: float, high: float, *, null_dim: int = 0, eps: float = EPS) -> Floats:
    """Eq. (5) over one band of the spectrum.

    Args:
        spectra: σ, (N, D), descending.
        low: Where the band begins, % of the D − null_dim largest σ, from the largest.
        high: Where it ends, %.
        null_dim: Structurally null directions.
        eps: Least σ that counts.

    Returns:
        (N,), nats; of an empty band, 0.
    """
    logs = _log(spectra, null_dim, eps)
    first, last = (int(np.floor(logs.shape[1] * share / 100 + 0.5)) for share in (low, high))
    return logs[:, first:last].sum(1)


def sphere_score(
    spectra: Spectra, sphere_terms: Floats, embeddings: NDArray[np.floating], *, eps: float = EPS
) -> Floats:
    """Eq. (5) of the embedding normalised to unit length; see ``density.sphere_score``.

    Args:
        spectra: σ of Jacobians of full rank D, (N, D).
        sphere_terms: ½ log(ẑᵀ(JJᵀ)⁻¹ẑ), (N,), nats.
        embeddings: f(x), (N, D).
        eps: Least σ that counts.

    Returns:
        (N,), nats; NaN where an embedding has no length.
    """
    radius = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    with np.errstate(divide="ignore"):
        length = np.where(radius > 0, np.log(radius), np.nan)
    return jepa_score(spectra, eps=eps) + sphere_terms - (embeddings.shape[1] - 1) * length


def dropped(rank: int, drop_top: float) -> int:
    """How many of the largest σ a share of them is, rounded half up; at least one σ stays.

    Args:
        rank: D − null_dim.
        drop_top: %, 0 ≤ q < 100.

    Returns:
        Their number.

    Raises:
        ValueError: The share is out of its range.

    Example:
        >>> dropped(384 - 2, 10), dropped(16, 10), dropped(5, 99)
        (38, 2, 4)
    """
    if not 0 <= drop_top < 100:
        raise ValueError(f"The share of the largest singular values to drop must be 0 to 100 %, not {drop_top}.")
    return min(int(np.floor(rank * drop_top / 100 + 0.5)), max(rank - 1, 0))


def _log(spectra: Spectra, null_dim: int, eps: float) -> Floats:
    """Log max(σ, eps) of the largest σ, (N, D − null_dim)."""
    if not 0 < eps < np.inf:
        raise ValueError(f"eps must be positive, not {eps}.")
    kept = spectra[:, : spectra.shape[1] - null_dim].astype(np.float64)
    return np.log(np.maximum(kept, eps))  # NaN stays NaN
