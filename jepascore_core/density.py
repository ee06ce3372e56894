"""The two other scores: what eq. (5) leaves out where the embedding is Gaussian in few dimensions.

Change of variables, eq. (1), says log p(x) = log p_Z(f(x)) + Σ log σ_k. The paper drops the first term because a
Gaussian in many dimensions is nearly uniform on a sphere (Lemma 1). In few it is not, and there are two remedies:
the *sphere* score moves the embedding to the sphere, the *corrected* score adds the first term.

Letters: B images, D embedding size. All in float64, in nats.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepascore_core.score import EPS, jepa_score

_BLOCK = 16_384  # samples that are looked at together


@dataclass(frozen=True, slots=True)
class FittedGaussian:
    """A Gaussian that was fitted to the embeddings of a run.

    Attributes:
        mean: (D,), float64.
        cholesky: Lower triangular factor of the covariance, (D, D), float64.
        shrinkage: Share of the covariance that was replaced by a multiple of the identity, 0 to 1.
    """

    mean: Tensor
    cholesky: Tensor
    shrinkage: float

    def log_density(self, embeddings: Tensor) -> Tensor:
        """Log N(z; mean, covariance), differentiable.

        Args:
            embeddings: z, (B, D).

        Returns:
            (B,), float64, nats.
        """
        apart = (embeddings.double() - self.mean).T  # (D, B)
        whitened = torch.linalg.solve_triangular(self.cholesky, apart, upper=False)
        log_det = self.cholesky.diagonal().log().sum()  # ½ log det of the covariance
        return -whitened.square().sum(0) / 2 - log_det - len(self.mean) / 2 * math.log(2 * math.pi)


def fit_gaussian(embeddings: Tensor, *, shrinkage: float | None = None) -> FittedGaussian:
    """Fit a Gaussian to the embeddings of a run.

    The covariance is (1 − s) S + s · tr(S)/D · I, S the sample covariance. Ledoit & Wolf (2004) give the s of least
    expected error: it vanishes with many samples, and makes the covariance invertible where they are fewer than D.

    Args:
        embeddings: (N, D), N ≥ 2, finite.
        shrinkage: s, 0 to 1; None takes Ledoit and Wolf's.

    Returns:
        The Gaussian.

    Raises:
        ValueError: Fewer than two embeddings, one that is not finite, s out of its range, or a covariance that cannot
            be inverted: the embeddings do not vary, or not in every direction while s is 0.
    """
    z = embeddings
    if z.dim() != 2 or len(z) < 2 or not z.isfinite().all():
        raise ValueError(f"A Gaussian is fitted to at least two finite embeddings (N, D), not {tuple(z.shape)}.")
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must lie between 0 and 1, not {shrinkage}.")
    mean, covariance, fourth = _moments(z)
    share = _ledoit_wolf(len(z), fourth, covariance) if shrinkage is None else shrinkage
    target = covariance.trace() / len(mean) * torch.eye(len(mean)).to(covariance)
    cholesky, failed = torch.linalg.cholesky_ex(torch.lerp(covariance, target, share))
    if failed:
        raise ValueError("The embeddings do not vary in every direction: their covariance cannot be inverted.")
    return FittedGaussian(mean, cholesky, share)


def corrected_score(
    singular_values: Tensor, embeddings: Tensor, gaussian: FittedGaussian, *, eps: float = EPS, null_dim: int = 0
) -> Tensor:
    """Corrected score: eq. (5) plus the log-density of the embedding under a Gaussian fitted to the run.

    For an invertible encoder with a Gaussian embedding this is log p(x) exactly, up to the error of the fit.

    Args:
        singular_values: σ, (B, D), ≥ 0.
        embeddings: f(x), (B, D).
        gaussian: From ``fit_gaussian``.
        eps: Least singular value that counts; > 0.
        null_dim: Structurally null directions, as in ``jepa_score``.

    Returns:
        Scores (B,), float64, nats.
    """
    return jepa_score(singular_values, eps=eps, null_dim=null_dim) + gaussian.log_density(embeddings)


def sphere_score(singular_values: Tensor, sphere_term: Tensor, embeddings: Tensor, *, eps: float = EPS) -> Tensor:
    """Sphere score of stored rows: eq. (5) of the encoder ẑ = f/‖f‖, from what a row holds of f.

    The Jacobian of ẑ is (I − ẑẑᵀ) J / ‖z‖, of rank D − 1, and its volume follows from that of J:
    Σ_{k < D} log σ_k(ẑ) = Σ log σ_k + ½ log(ẑᵀ(JJᵀ)⁻¹ẑ) − (D − 1) log‖z‖. This holds for J of full rank. Where J has
    null directions the part of ẑ along them decides, which a row does not hold; ``sphere_gram`` serves any J at hand.

    Args:
        singular_values: σ of a J of full rank D, (B, D), ≥ 0.
        sphere_term: ½ log(ẑᵀ(JJᵀ)⁻¹ẑ), (B,), nats.
        embeddings: f(x), (B, D).
        eps: Least singular value that counts; > 0.

    Returns:
        Scores (B,), float64, nats.

    Raises:
        ValueError: The arguments are not of the same B and D.
    """
    if singular_values.shape != embeddings.shape or sphere_term.shape != embeddings.shape[:1]:
        shapes = [tuple(tensor.shape) for tensor in (singular_values, sphere_term, embeddings)]
        raise ValueError(f"Rows need σ (B, D), a sphere term (B,) and embeddings (B, D), not {shapes}.")
    radius = embeddings.double().norm(dim=1)
    raw = jepa_score(singular_values, eps=eps)
    return raw + sphere_term.double() - (embeddings.shape[1] - 1) * radius.log()


def sphere_gram(gram: Tensor, embeddings: Tensor) -> Tensor:
    """Gram matrix of the Jacobian of ẑ = f/‖f‖: (I − ẑẑᵀ) JJᵀ (I − ẑẑᵀ) / ‖z‖².

    One direction at least is null: ẑ itself. It is the only one where J has full rank D. It is also the only one
    where J has rank D − 1 and ẑ lies outside of its range: for P = D − 1 inputs, and for an encoder that ends on the
    unit sphere, whose Gram matrix this leaves as it is. So ``null_dim=1`` gives the sphere score in all three cases.

    Args:
        gram: J Jᵀ, (B, D, D).
        embeddings: f(x), (B, D).

    Returns:
        (B, D, D), float64.
    """
    z = embeddings.double()
    unit = nn.functional.normalize(z, dim=1)
    across = torch.eye(z.shape[1]).to(z) - unit.unsqueeze(2) * unit.unsqueeze(1)  # I − ẑẑᵀ
    return across @ gram.double() @ across / z.square().sum(1).view(-1, 1, 1)


def _moments(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), covariance (D, D) and mean fourth power of the distance from the mean of samples (N, D), float64.

    Block by block: a run's samples in float64, several times over, would not fit beside a server's other work.
    """
    blocks = z.split(_BLOCK)
    mean = torch.stack([block.double().sum(0) for block in blocks]).sum(0) / len(z)
    covariance, fourth = torch.zeros(len(mean), len(mean)).to(mean), mean.new_zeros(())
    for block in blocks:
        apart = block.double() - mean
        covariance += apart.T @ apart / len(z)
        fourth += apart.square().sum(1).square().sum() / len(z)
    return mean, covariance, fourth


def _ledoit_wolf(n: int, fourth: Tensor, covariance: Tensor) -> float:
    """Ledoit and Wolf's share of the identity, from the moments of N samples."""
    dim = len(covariance)
    scale = covariance.trace() / dim
    distance = (covariance - scale * torch.eye(dim).to(covariance)).square().sum()
    error = (fourth - covariance.square().sum()) / n
    return float((error / distance).clamp(0, 1)) if distance > 0 else 1.0
