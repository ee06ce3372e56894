"""Over how many directions a set of embeddings spreads."""

import numpy as np
from numpy.typing import ArrayLike


def effective_rank(eigenvalues: ArrayLike) -> float:
    """Exponential of the entropy of the eigenvalues' shares (Roy & Vetterli, 2007).

    Args:
        eigenvalues: Of a covariance, (D,), ≥ 0, not all 0.

    Returns:
        1 to D.

    Example:
        >>> round(effective_rank([1.0, 1.0, 0.0]), 6)
        2.0
    """
    values = np.asarray(eigenvalues, dtype=np.float64)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def embedding_rank(embeddings: ArrayLike) -> float:
    """Effective rank of the covariance of embeddings; at most N − 1, and too small where N is not far above D.

    Args:
        embeddings: (N, D), finite.

    Returns:
        1 to D; 0 where they do not vary.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    centred = rows - rows.mean(axis=0)
    gram = centred.T @ centred if len(rows) > rows.shape[1] else centred @ centred.T
    values = np.linalg.eigvalsh(gram).clip(min=0)
    floor = 1e-12 * float(np.square(rows).sum())  # what rounding leaves of a constant
    return effective_rank(values) if values.sum() > floor else 0.0
