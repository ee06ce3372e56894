"""From singular values to JEPA-SCORE, its error, and its estimate over views. All in float64, in nats."""

import math

import torch
from torch import Tensor

EPS = 1e-6  # Listing 1 of the paper
_SIGMAS = 3  # standard deviations of what rests on one to four measurements
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


def score_error(singular_values: Tensor, noise: Tensor, noise_along: Tensor, *, null_dim: int = 0) -> Tensor:
    """Estimate of a score's rounding error, in nats, from what the sweep measured.

    Let each direction u_k carry an error e like the measured ones. To first order log σ_k moves by v_k·e / σ_k; the
    directions round independently, so that these add as squares, and are taken three times for the few measurements
    that they rest on. To second order log σ_k grows by ‖e‖² / 2σ_k². What the forward pass rounds is shared by all
    directions and adds linearly.

    Args:
        singular_values: σ, (B, D), ≥ 0.
        noise: Measured ‖e‖, (B,), ≥ 0.
        noise_along: Measured |v_k·e|, (B, D), ≥ 0.
        null_dim: Structurally null directions, as in ``jepa_score``.

    Returns:
        Errors (B,), float64, nats, ≥ 0; infinite where a counted σ is zero and noise is not, and where σ is NaN.

    Raises:
        ValueError: ``singular_values`` is not (B, D), or null_dim is not in [0, D).
    """
    kept = _kept(singular_values, null_dim)
    order = singular_values.double().argsort(dim=1, descending=True)[:, : kept.shape[1]]
    first = (noise_along.double().gather(1, order) / kept).nan_to_num(0.0)  # 0 / 0: nothing was rounded
    second = (noise.double().unsqueeze(1) / kept).nan_to_num(0.0, posinf=torch.inf).square() / 2
    error = _SIGMAS * first.square().sum(1).sqrt() + second.sum(1) + FORWARD_ROUNDING * kept.shape[1]
    return torch.where(kept.isnan().any(1), torch.inf, error)


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
