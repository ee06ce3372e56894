"""Training objectives of small JEPAs and what they leave behind in the embedding.

An objective takes the embeddings of V views of B images, of which the first two show most of it and any
others a part (local views), and returns its terms. Two objectives are two functions with one signature;
``OBJECTIVES`` names them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu

KNOTS = 17
T_MAX = 3.0
SLICES = 256
GAUSSIAN_STATISTIC = math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3)
"""Expected Epps–Pulley statistic of standard normal samples, ∫ (1 − e^{−t²}) e^{−t²/2} dt ≈ 1.06."""


class Terms(NamedTuple):
    """What an objective returns: scalars with gradients.

    Attributes:
        loss: What is minimised: (1 − weight) · invariance + weight · regulariser.
        invariance: Mean squared distance between the views of one image, as the objective takes it.
        regulariser: The anti-collapse term.
    """

    loss: Tensor
    invariance: Tensor
    regulariser: Tensor


Objective = Callable[[Tensor, float, torch.Generator], Terms]


def sigreg(views: Tensor, weight: float, generator: torch.Generator, *, slices: int = SLICES) -> Terms:
    """LeJEPA: agreement of views, and embeddings pushed to a standard Gaussian (arXiv:2511.08544).

    Args:
        views: Embeddings (V, B, D).
        weight: λ in [0, 1].
        generator: CPU generator; draws the directions on which the samples are compared.
        slices: How many directions.

    Returns:
        The terms.
    """
    directions = torch.randn(views.shape[-1], slices, generator=generator).to(views)
    invariance = (views - views[:2].mean(dim=0)).square().mean()
    regulariser = epps_pulley(views @ (directions / directions.norm(dim=0))).mean()
    return Terms((1 - weight) * invariance + weight * regulariser, invariance, regulariser)


def vicreg(views: Tensor, weight: float, generator: torch.Generator) -> Terms:
    """VICReg: agreement of views, a floor under each variance, no covariance (arXiv:2105.04906).

    With weight 0.5 the three terms stand as 25 : 25 : 1, the paper's coefficients.

    Args:
        views: Embeddings (V, B, D).
        weight: In [0, 1].
        generator: Unused; here so that objectives share one signature.

    Returns:
        The terms.
    """
    pairs = [(views[1:] - views[0]).square(), (views[2:] - views[1]).square()]  # every view with the first two, once
    invariance = torch.cat(pairs).mean()
    centred = views - views.mean(dim=1, keepdim=True)  # (V, B, D)
    variance = relu(1 - (centred.var(dim=1) + 1e-4).sqrt()).mean()
    covariance = centred.mT @ centred / (views.shape[1] - 1)  # (V, D, D)
    off_diagonal = covariance.square().sum() - covariance.diagonal(dim1=1, dim2=2).square().sum()
    regulariser = variance + off_diagonal / views.shape[2] / 25
    return Terms((1 - weight) * invariance + weight * regulariser, invariance, regulariser)


OBJECTIVES: dict[str, Objective] = {"sigreg": sigreg, "vicreg": vicreg}


def epps_pulley(samples: Tensor) -> Tensor:
    """Epps–Pulley distance between samples and a standard Gaussian, one for each column.

    B ∫ |φ_B(t) − e^{−t²/2}|² e^{−t²/2} dt over |t| ≤ 3, φ_B the empirical characteristic function,
    by the trapezoid rule on 17 knots of the half line, as in LeJEPA.

    Args:
        samples: (..., B, S): B samples on each of S slices.

    Returns:
        (..., S), about ``GAUSSIAN_STATISTIC`` for Gaussian samples whatever B; grows with B otherwise.

    Example:
        >>> float(epps_pulley(torch.zeros(100, 1))) > 10 * GAUSSIAN_STATISTIC
        True
    """
    t = torch.linspace(0, T_MAX, KNOTS, device=samples.device, dtype=samples.dtype)
    width = torch.full_like(t, 2 * T_MAX / (KNOTS - 1))  # both half lines
    width[[0, -1]] /= 2
    gaussian = (-t.square() / 2).exp()
    angle = samples.unsqueeze(-1) * t  # (..., B, S, knots)
    distance = (angle.cos().mean(dim=-3) - gaussian).square() + angle.sin().mean(dim=-3).square()
    return samples.shape[-2] * (distance @ (width * gaussian))


def covariance_eigenvalues(embeddings: Tensor) -> Tensor:
    """Eigenvalues of the embedding covariance: all 1 for a standard Gaussian, near 0 where collapsed.

    Args:
        embeddings: (N, D).

    Returns:
        (D,) float64, descending.
    """
    return torch.linalg.eigvalsh(embeddings.double().T.cov()).flip(0).clamp(min=0)


def projection_moments(embeddings: Tensor, *, seed: int = 0) -> dict[str, float]:
    """How Gaussian random projections of the embedding are, medians over ``SLICES`` directions.

    Args:
        embeddings: (N, D).
        seed: Seed of the directions.

    Returns:
        ``std`` (1 if standard), ``skewness`` (absolute, 0 if Gaussian), ``excess_kurtosis`` (0 if
        Gaussian) and ``ks`` (largest distance between the distribution function of the standardised
        projection and the Gaussian's, 0 to 1).
    """
    z = embeddings.double()
    directions = torch.randn(z.shape[1], SLICES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = z @ (directions / directions.norm(dim=0)).to(z.device)  # (N, SLICES)
    std = x.std(dim=0)
    x = ((x - x.mean(dim=0)) / std).sort(dim=0).values
    rank = torch.arange(1, len(x) + 1, device=x.device, dtype=x.dtype).unsqueeze(1) / len(x)
    ks = (torch.special.ndtr(x) - rank + 0.5 / len(x)).abs().amax(dim=0) + 0.5 / len(x)
    moments = {
        "std": std,
        "skewness": x.pow(3).mean(dim=0).abs(),
        "excess_kurtosis": x.pow(4).mean(dim=0) - 3,
        "ks": ks,
    }
    return {name: float(values.median()) for name, values in moments.items()}
