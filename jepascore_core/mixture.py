"""Gaussian mixtures whose density is known exactly: the data of the paper's Figure 2. All in float64, in nats.

Letters: B points, d dimensions of the data, K components.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class GaussianMixture:
    """p(x) = Σ_k w_k N(x; μ_k, L_k L_kᵀ).

    Attributes:
        weights: w, (K,), float64, > 0, of sum 1.
        means: μ, (K, d), float64.
        cholesky: L, (K, d, d), float64, lower triangular with a positive diagonal.

    Raises:
        ValueError: Shapes do not fit together, or the weights are not positive with sum 1.
    """

    weights: Tensor
    means: Tensor
    cholesky: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(tensor.shape) for tensor in (self.weights, self.means, self.cholesky)]
        count, dim = (*shapes[1], 0, 0)[:2]
        if not count * dim or shapes != [(count,), (count, dim), (count, dim, dim)]:
            raise ValueError(f"A mixture needs shapes (K,), (K, d) and (K, d, d), not {', '.join(map(str, shapes))}.")
        if not (self.weights > 0).all() or abs(float(self.weights.sum()) - 1) > 1e-6:
            raise ValueError(f"Weights must be positive and sum to 1, not {self.weights.tolist()}.")

    @property
    def dim(self) -> int:
        """Dimensions of the data, d."""
        return self.means.shape[1]

    def log_density(self, x: Tensor) -> Tensor:
        """Exact log p(x).

        Args:
            x: Points (B, d), any float dtype.

        Returns:
            (B,), float64, nats.
        """
        return self._joint(self._whitened(x)).logsumexp(dim=0)

    def gradient(self, x: Tensor) -> Tensor:
        """Exact ∇ log p(x) = −Σ_k r_k(x) Σ_k⁻¹ (x − μ_k), with r_k the share of component k in p(x).

        Args:
            x: Points (B, d), any float dtype.

        Returns:
            (B, d), float64, nats per unit of x.
        """
        whitened = self._whitened(x)
        shares = self._joint(whitened).softmax(dim=0)  # (K, B)
        pulls = torch.linalg.solve_triangular(self.cholesky.mT, whitened, upper=True)  # (K, d, B)
        return -(shares.unsqueeze(1) * pulls).sum(0).T

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw points.

        Args:
            n: How many, ≥ 0.
            generator: CPU generator; decides everything.

        Returns:
            (n, d), float64.
        """
        uniform = torch.rand(n, generator=generator, dtype=torch.float64)
        component = torch.searchsorted(self.weights.cumsum(0), uniform).clamp(max=len(self.weights) - 1)
        normal = torch.randn(n, self.dim, 1, generator=generator, dtype=torch.float64)
        return self.means[component] + (self.cholesky[component] @ normal).squeeze(2)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the whole mixture.

        Returns:
            Mean (d,) and covariance (d, d), float64.
        """
        mean = self.weights @ self.means
        apart = self.means - mean
        second = self.cholesky @ self.cholesky.mT + apart.unsqueeze(2) * apart.unsqueeze(1)  # (K, d, d)
        return mean, torch.einsum("k,kij->ij", self.weights, second)

    def _whitened(self, x: Tensor) -> Tensor:
        """L_k⁻¹ (x − μ_k), (K, d, B)."""
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(f"Points must be (B, {self.dim}), not {tuple(x.shape)}.")
        apart = (x.double() - self.means.unsqueeze(1)).mT
        return torch.linalg.solve_triangular(self.cholesky, apart, upper=False)

    def _joint(self, whitened: Tensor) -> Tensor:
        """Joint log-density of point and component, log w_k + log N(x; μ_k, Σ_k), (K, B)."""
        log_det = self.cholesky.diagonal(dim1=1, dim2=2).log().sum(1)  # ½ log det Σ_k, (K,)
        constant = self.weights.log() - log_det - self.dim / 2 * math.log(2 * math.pi)
        return constant.unsqueeze(1) - whitened.square().sum(1) / 2


def random_mixture(
    dim: int,
    *,
    components: int = 5,
    separation: float = 6.0,
    anisotropy: float = 3.0,
    scale_ratio: float = 2.0,
    seed: int = 0,
) -> GaussianMixture:
    """Draw a mixture of equally weighted components.

    Args:
        dim: d, ≥ 1.
        components: K, ≥ 1.
        separation: Root mean square distance between two means; a component of scale 1 has standard deviation 1
            along an axis.
        anisotropy: Longest axis of a component over its shortest, ≥ 1; axes are randomly turned.
        scale_ratio: Scale of the widest component over that of the narrowest, ≥ 1; 1 makes all of one volume.
        seed: Decides means and axes.

    Returns:
        The mixture.

    Raises:
        ValueError: A number is out of its range.

    Example:
        >>> random_mixture(2, components=3).means.shape
        torch.Size([3, 2])
    """
    if min(dim, components) < 1 or min(anisotropy, scale_ratio) < 1 or not separation >= 0:
        asked = f"{dim=}, {components=}, {separation=}, {anisotropy=}, {scale_ratio=}"
        raise ValueError(f"dim, components, anisotropy and scale_ratio must be at least 1, separation 0, not {asked}.")
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(components, dim, generator=generator, dtype=torch.float64)
    frames, _ = torch.linalg.qr(torch.randn(components, dim, dim, generator=generator, dtype=torch.float64))
    stds = _spread(scale_ratio, components).unsqueeze(1) * _spread(anisotropy, dim)  # (K, d)
    covariance = frames * stds.square().unsqueeze(1) @ frames.mT
    weights = torch.full((components,), 1 / components, dtype=torch.float64)
    return GaussianMixture(weights, means * separation / math.sqrt(2 * dim), torch.linalg.cholesky(covariance))


def _spread(ratio: float, count: int) -> Tensor:
    """``count`` numbers in geometric progression, the last ``ratio`` times the first, of geometric mean 1."""
    half = math.log(ratio) / 2
    return torch.linspace(-half, half, count, dtype=torch.float64).exp() if count > 1 else torch.ones(1).double()
