"""From singular values to JEPA-SCORE, its error, and its estimate over views. All in float64, in nats."""

import math

import torch
from torch import Tensor

EPS = 1e-6  # Listing 1 of the paper
FORWARD_ROUNDING = 5e-7  # relative error of each σ that a float32 forward pass leaves (4 ulp) and no probe sees


def jepa_score(singular_values: Tensor, *, eps: float = EPS, null_dim: int = 0) -> Tensor:
    """JEPA-SCORE, eq. (5) of the paper: Σ_{k ≤ rank} log max(σ_k, eps); higher means likelier.

    Args:
        singular_values: σ, (B, D), ≥ 0, any float dtype, in any order.
        eps: Least singular value that counts; > 0.
        null_dim: Structurally null directions: this many smallest σ are left out. 0 sums over all D,
            which is the convention of Listing 1.

    Returns:
        Scores (B,), float64, nats. A row with a NaN scores NaN.

    Raises:
        ValueError: ``singular_values`` is not (B, D), eps is not positive, or null_dim is not in [0, D).

    Example:
        >>> jepa_score(torch.tensor([[math.e, 1.0, 0.0]]), null_dim=1).round(decimals=5).tolist()
        [1.0]
    """
    kept = _kept(singular_values, null_dim)
    if not eps > 0:
        raise ValueError(f"eps must be positive, not {eps}.")
    return kept.clamp(min=eps).log().sum(1)


def score_error(singular_values: Tensor, noise: Tensor, *, null_dim: int = 0) -> Tensor:
    """Estimate of a score's rounding error, in nats.

    A perturbation of 2-norm ``noise`` moves σ_k by at most that much (Weyl), hence log σ_k by noise / σ_k. The
    directions round independently, so that their errors add as squares; what the forward pass rounds is shared
    by all directions and adds linearly.

    Args:
        singular_values: σ, (B, D), ≥ 0.
        noise: Measured rounding error of one row of the Jacobian, (B,), ≥ 0.
        null_dim: Structurally null directions, as in ``jepa_score``.

    Returns:
        Errors (B,), float64, nats, ≥ 0; infinite where a counted σ is zero and noise is not.

    Raises:
        ValueError: ``singular_values`` is not (B, D), or null_dim is not in [0, D).
    """
    kept = _kept(singular_values, null_dim)
    ratio = noise.double().unsqueeze(1) / kept
    independent = torch.where(noise.unsqueeze(1) > 0, ratio, 0.0).square().sum(1).sqrt()
    return independent + FORWARD_ROUNDING * kept.shape[1]


def views_score(scores: Tensor) -> Tensor:
    """Estimate of log p from several augmented views, eq. (4): −log mean_t exp(−score_t).

    Args:
        scores: Score of each view, (B, T), T ≥ 1, nats.

    Returns:
        (B,), float64, nats. For T = 1 this is the score itself, eq. (5).

    Raises:
        ValueError: ``scores`` is not (B, T) with T at least 1.

    Example:
        >>> views_score(torch.tensor([[2.5]])).tolist()
        [2.5]
    """
    if scores.dim() != 2 or not scores.shape[1]:
        raise ValueError(f"Scores must be (B, T) with T at least 1, not {tuple(scores.shape)}.")
    return math.log(scores.shape[1]) - torch.logsumexp(-scores.double(), dim=1)


def _kept(singular_values: Tensor, null_dim: int) -> Tensor:
    """The D − null_dim largest singular values, (B, D − null_dim), float64, descending."""
    if singular_values.dim() != 2 or not 0 <= null_dim < singular_values.shape[1]:
        raise ValueError(f"Cannot leave {null_dim} out of singular values of shape {tuple(singular_values.shape)}.")
    return singular_values.double().sort(dim=1, descending=True).values[:, : singular_values.shape[1] - null_dim]
