"""How an encoder ends, and in how many directions its Jacobian must therefore vanish.

A final LayerNorm maps a token h to γ·x̂ + β with x̂ = (h − mean)/std. Its Jacobian γ(I − 11ᵀ/D − x̂x̂ᵀ/D)/std
has two left null directions, 1/γ and x̂/γ. A single token keeps both (null dimension 2). A mean of tokens
keeps 1/γ only, since x̂ differs from token to token (1). A projection behind it restores full rank (0).
RMSNorm does not subtract the mean and keeps x̂/γ alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jepascore_core.errors import EncoderError

VANISHES = 1e-2
"""A direction is null when its gradient is below this share of that of a random direction of equal weights.
Rounding leaves 1e-6; LayerNorm's eps leaves eps/variance, below 1e-3 for any variance above 0.01."""

SMALL_D = 64
RANK_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Ending:
    """What one random image says of an encoder.

    Attributes:
        embedding_dim: D.
        pooling: ``class token``, ``mean`` or ``pooled`` when the embedding comes straight from a
            final norm, else None.
        null_dim: Directions in which the Jacobian vanishes.
    """

    embedding_dim: int
    pooling: str | None
    null_dim: int


@dataclass(frozen=True, slots=True)
class _Norm:
    """The last normalisation of a forward pass: its module, input and output."""

    module: nn.Module
    inputs: Tensor
    outputs: Tensor


def find_ending(model: nn.Module, image: Tensor) -> Ending:
    """Run one image and measure the null dimension.

    Costs one forward pass when a final norm explains the embedding; a D of at most 64 is measured from
    its whole spectrum instead.

    Args:
        model: Encoder in eval mode.
        image: One input (C, H, W), on the model's device, of the model's dtype.

    Returns:
        What was found.

    Raises:
        EncoderError: The output is not one finite vector for an image.
    """
    images = image[None].clone().requires_grad_()
    with torch.enable_grad():
        embedding, norms, narrow = _watched_forward(model, images)
        if not isinstance(embedding, Tensor) or embedding.ndim != 2 or embedding.shape[0] != 1:
            shape = tuple(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
            raise EncoderError(f"The encoder gives {shape} for one image, not one vector (1, D).")
        if not embedding.isfinite().all():
            raise EncoderError("The encoder gives an embedding that is not finite, so its weights are damaged.")
        pooling = _pooling(norms[-1].outputs, embedding) if norms else None
        dim = embedding.shape[1]
        if dim <= SMALL_D:
            null_dim = _null_dim_from_spectrum(embedding, images)
        elif pooling is not None:
            null_dim = sum(_vanishes(norms[-1], embedding, v) for v in _null_directions(norms[-1], pooling))
        else:
            null_dim = _null_dim_behind_bottleneck(embedding, images, narrow)
    return Ending(dim, pooling, null_dim)


def _watched_forward(model: nn.Module, images: Tensor) -> tuple[Tensor, list[_Norm], list[Tensor]]:
    """Forward pass that records the last norm and the vectors that enter linear layers."""
    norms: list[_Norm] = []
    vectors: list[Tensor] = []

    def watch_norm(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        norms[:] = [_Norm(module, inputs[0], outputs)]

    def watch_linear(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].ndim > 1 and inputs[0].numel() == inputs[0].shape[1]:  # (1, F) or (1, F, 1, 1)
            vectors.append(inputs[0])

    hooks = [module.register_forward_hook(watch_norm) for module in model.modules() if _is_norm(module)]
    linear = (module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    hooks += [module.register_forward_pre_hook(watch_linear) for module in linear]
    try:
        return model(images), norms, vectors
    finally:
        for hook in hooks:
            hook.remove()


def _is_norm(module: nn.Module) -> bool:
    """Whether a module normalises over features: LayerNorm, RMSNorm and their many subclasses."""
    return isinstance(module, nn.LayerNorm) or "rmsnorm" in type(module).__name__.lower()


def _pooling(tokens: Tensor, embedding: Tensor) -> str | None:
    """Name the way from the final norm's output to the embedding, when there is no more to it."""
    dim = embedding.shape[1]
    if tokens.numel() == dim:
        candidates = {"pooled": tokens.reshape(1, dim)}
    elif tokens.ndim == 3 and tokens.shape[2] == dim:
        skips = {f"mean {skip}": tokens[:, skip:].mean(1) for skip in range(min(9, tokens.shape[1]))}
        candidates = {"class token": tokens[:, 0], **skips}
    elif tokens.ndim == 4 and tokens.shape[3] == dim:
        candidates = {"mean": tokens.mean((1, 2))}
    elif tokens.ndim == 4 and tokens.shape[1] == dim:
        candidates = {"mean": tokens.mean((2, 3))}
    else:
        return None
    scale = float(embedding.detach().abs().max())
    close = (name for name, value in candidates.items() if torch.allclose(value, embedding, atol=1e-4 * scale))
    return next((name.partition(" ")[0] if name.startswith("mean") else name for name in close), None)


def _null_directions(norm: _Norm, pooling: str) -> list[Tensor]:
    """Directions (D,) that the structure says are null: 1/γ, and x̂/γ for a single token."""
    hidden = norm.inputs.detach()
    channels_first = hidden.ndim == 4 and "2d" in type(norm.module).__name__.lower()
    hidden = hidden.movedim(1, -1) if channels_first else hidden
    token = hidden.reshape(-1, hidden.shape[-1])[0]
    weight = getattr(norm.module, "weight", None)
    inverse = torch.ones_like(token) if weight is None else torch.where(weight == 0, 0, 1 / weight).to(token)
    centred = isinstance(norm.module, nn.LayerNorm)
    normalised = (token - token.mean()) if centred else token
    directions = [inverse] if centred else []
    return directions if pooling == "mean" else [*directions, normalised / normalised.std() * inverse]


def _vanishes(norm: _Norm, embedding: Tensor, direction: Tensor) -> bool:
    """Whether the gradient along a direction cancels, beside that of the same weights with random signs."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, direction.shape, generator=generator).to(direction) * 2 - 1
    null, control = (
        torch.autograd.grad(embedding, norm.inputs, cotangent[None], retain_graph=True)[0].norm()
        for cotangent in (direction, direction * signs)
    )
    return bool(null < VANISHES * control)


def _null_dim_from_spectrum(embedding: Tensor, images: Tensor) -> int:
    """Count singular values that are zero but for rounding, from all D rows of the Jacobian."""
    rows = [torch.autograd.grad(value, images, retain_graph=True)[0].reshape(-1) for value in embedding[0]]
    jacobian = torch.stack(rows).double().cpu()
    squares = torch.linalg.eigvalsh(jacobian @ jacobian.T).clamp(min=0)
    return int((squares.sqrt() < RANK_TOLERANCE * squares.sqrt().max()).sum())


def _null_dim_behind_bottleneck(embedding: Tensor, images: Tensor, vectors: list[Tensor]) -> int:
    """D less the width of the narrowest vector that all of the embedding passes through.

    MobileNetV3, for one, widens 960 pooled features to 1,280. A vector is such a bottleneck when the
    gradient taken through it is the whole gradient.
    """
    dim = embedding.shape[1]
    narrow = [vector for vector in vectors if vector.numel() < dim and vector.requires_grad]
    if not narrow:
        return 0
    cotangent = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(0)).to(embedding)
    whole, *parts = torch.autograd.grad(embedding, [images, *narrow], cotangent, retain_graph=True, allow_unused=True)
    null_dim = 0
    for vector, part in zip(narrow, parts, strict=True):
        if part is not None:
            through = torch.autograd.grad(vector, images, part, retain_graph=True)[0]
            if torch.allclose(through, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max())):
                null_dim = max(null_dim, dim - vector.numel())
    return null_dim
