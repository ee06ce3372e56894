"""JEPA-SCORE as a function of the input that can be differentiated: what Langevin sampling climbs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from jepascore_core.eigen import eigh
from jepascore_core.score import EPS, jepa_score


def log_volume(gram: Tensor, *, eps: float = EPS, null_dim: int = 0) -> Tensor:
    """Σ_{k ≤ rank} log max(σ_k, eps) of a Jacobian from its Gram matrix, eq. (5), with a gradient.

    The gradient is U diag(1 / 2λ_k) Uᵀ over the counted λ_k = σ_k² above eps². No eigenvector is differentiated, so
    that repeated σ do no harm; a σ below eps, and a structurally null one, adds nothing. It can be taken once.

    Args:
        gram: J Jᵀ, (B, D, D), or Jᵀ J, which has the same σ > 0; any float dtype, symmetric.
        eps: Least singular value that counts; > 0.
        null_dim: Structurally null directions of the matrix: this many smallest σ are left out.

    Returns:
        Scores (B,), float64, nats; what ``jepa_score`` gives for the same σ. NaN where a matrix is not finite.

    Raises:
        ValueError: ``gram`` is not (B, D, D), eps is not positive, or null_dim is not in [0, D).

    Example:
        >>> log_volume(torch.diag(torch.tensor([4.0, 4.0])).unsqueeze(0)).exp().tolist()
        [4.0]
    """
    if gram.dim() != 3 or gram.shape[1] != gram.shape[2]:
        raise ValueError(f"Gram matrices must be (B, D, D), not {tuple(gram.shape)}.")
    return _LogVolume.apply(gram.double(), eps, null_dim)


def input_jacobian(encoder: Callable[[Tensor], Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Jacobian and embedding of each input of a small encoder, both differentiable again.

    Args:
        encoder: Maps (B, …) to (B, D), each input by itself (eval mode).
        inputs: (B, …), in the encoder's dtype, P values each.

    Returns:
        J (B, D, P) and f(x) (B, D), in the inputs' dtype.
    """

    def one(x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = encoder(x.unsqueeze(0)).squeeze(0)  # (D,)
        return embedding, embedding

    jacobian, embedding = torch.func.vmap(torch.func.jacrev(one, has_aux=True))(inputs)  # over B
    return jacobian.flatten(2), embedding


def score_and_gradient(
    encoder: nn.Module,
    inputs: Tensor,
    *,
    eps: float = EPS,
    null_dim: int = 0,
    embedding_log_density: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """JEPA-SCORE, eq. (5), of each input of a small encoder, and its gradient with respect to that input.

    Memory grows with B · D times the encoder's activations; call it on parts of a large batch.

    Args:
        encoder: Maps (B, …) to (B, D), each input by itself (eval mode), twice differentiable.
        inputs: (B, …), in the encoder's dtype; float64 advised.
        eps: Least singular value that counts; > 0.
        null_dim: Structurally null directions, as in ``jepa_score``: at least D − P.
        embedding_log_density: (B, D) -> (B,), nats, added to the score: with a fitted Gaussian's, this is the
            corrected score.

    Returns:
        Scores (B,), float64, nats, and gradients of the shape and dtype of ``inputs``; neither carries a graph.
    """
    leaf = inputs.detach().requires_grad_()
    with torch.enable_grad():
        jacobian, embedding = input_jacobian(encoder, leaf)
        rows = jacobian.double()
        score = log_volume(rows @ rows.mT, eps=eps, null_dim=null_dim)
        if embedding_log_density is not None:
            score = score + embedding_log_density(embedding.double())
        (gradient,) = torch.autograd.grad(score.sum(), leaf)
    return score.detach(), gradient


class _LogVolume(torch.autograd.Function):
    """½ Σ log λ_k over the counted eigenvalues; see ``log_volume``."""

    @staticmethod
    def forward(ctx: Any, gram: Tensor, eps: float, null_dim: int) -> Tensor:
        eigenvalues, eigenvectors = eigh(gram)
        score = jepa_score(eigenvalues.sqrt(), eps=eps, null_dim=null_dim)
        ctx.save_for_backward(eigenvalues, eigenvectors)
        ctx.eps, ctx.kept = eps, gram.shape[1] - null_dim
        return score

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        eigenvalues, eigenvectors = ctx.saved_tensors
        slope = torch.where(eigenvalues <= ctx.eps**2, 0.0, 0.5 / eigenvalues)  # (B, D); NaN stays NaN
        slope = slope * (torch.arange(slope.shape[1], device=slope.device) < ctx.kept)
        return (eigenvectors * (slope * grad.unsqueeze(1)).unsqueeze(1)) @ eigenvectors.mT, None, None
