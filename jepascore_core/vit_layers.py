"""The parts of a Vision Transformer inside a module, found by their shape.

Knows the plain pre-norm Vision Transformers of timm and of open_clip by the names of their parts, without
importing either. What is found is only a reading: ``vit.sweep`` compares it with autograd on every image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """One pre-norm block: y = x + s₁·attention(norm1(x)), then y + s₂·W₂ gate(W₁ norm2(y)).

    Letters: d width, m hidden width (twice the gate's output in a gated MLP).

    Attributes:
        module: The block itself.
        norm1: LayerNorm before the attention.
        qkv_weight: (3d, d), rows of queries, keys, values; heads within each.
        qkv_bias: (3d,).
        heads: Number of heads.
        out: Output projection of the attention.
        scale1: s₁ (d,), or None.
        norm2: LayerNorm before the MLP.
        fc1: W₁, (m, d).
        gate: Activation, (…, m) -> (…, m or m / 2); each output depends on its own inputs only.
        fc2: W₂.
        scale2: s₂ (d,), or None.
    """

    module: nn.Module
    norm1: nn.LayerNorm
    qkv_weight: Tensor
    qkv_bias: Tensor | None
    heads: int
    out: nn.Linear
    scale1: Tensor | None
    norm2: nn.LayerNorm
    fc1: nn.Linear
    gate: Callable[[Tensor], Tensor]
    fc2: nn.Linear
    scale2: Tensor | None


@dataclass(frozen=True)
class VisionTransformer:
    """What the sweep must know; pooling, final norm and projection are left to autograd.

    Attributes:
        patches: Convolution that embeds patches, which do not overlap.
        norm_pre: LayerNorm between the embedding and the first block, or None.
        layers: Blocks in order.
    """

    patches: nn.Conv2d
    norm_pre: nn.LayerNorm | None
    layers: tuple[Layer, ...]

    @property
    def width(self) -> int:
        """Values of one token, d."""
        return self.patches.out_channels


def find_transformer(encoder: nn.Module) -> VisionTransformer | None:
    """Read a plain Vision Transformer out of an encoder.

    Args:
        encoder: Any module that maps (B, C, H, W) to (B, D).

    Returns:
        Its parts, or None where it holds anything else than one stack of known blocks behind one embedding of
        patches that do not overlap.
    """
    stacks = [layers for module in encoder.modules() if (layers := _read_stack(module))]
    patches = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    if len(stacks) != 1 or len(patches) != 1 or not _tiles(patches[0]):
        return None
    norms = [module for name, module in encoder.named_modules() if name.split(".")[-1] in ("norm_pre", "ln_pre")]
    before = [module for module in norms if isinstance(module, nn.LayerNorm)]
    if len(before) > 1 or not all(isinstance(module, nn.LayerNorm | nn.Identity) for module in norms):
        return None
    return VisionTransformer(patches[0], before[0] if before else None, stacks[0])


def _tiles(patches: nn.Conv2d) -> bool:
    """Whether a convolution cuts the image into patches that do not overlap, each seen once."""
    plain = patches.padding in ((0, 0), "valid") and patches.dilation == (1, 1) and patches.groups == 1
    return plain and patches.stride == patches.kernel_size


def _read_stack(module: nn.Module) -> tuple[Layer, ...]:
    """The blocks of a list of blocks; empty when it is anything else."""
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return ()
    layers = [_read_timm(block) or _read_open_clip(block) for block in module]
    return tuple(layer for layer in layers if layer) if all(layers) else ()


def _read_timm(block: Any) -> Layer | None:
    """A block of ``timm.models.vision_transformer``."""
    attention: Any = getattr(block, "attn", None)
    mlp: Any = getattr(block, "mlp", None)
    linear = [(attention, "qkv"), (attention, "proj"), (mlp, "fc1"), (mlp, "fc2")]
    known = type(block).__name__ == "Block" and type(attention).__name__ == "Attention"  # rotary kinds look the same
    if not known or not all(isinstance(getattr(owner, name, None), nn.Linear) for owner, name in linear):
        return None
    does_nothing = [
        (attention, "q_norm"),
        (attention, "k_norm"),
        (attention, "norm"),
        (attention, "gate"),
        (mlp, "norm"),
    ]
    if not all(_is_identity(owner, name) for owner, name in does_nothing) or not _normed(block, "norm1", "norm2"):
        return None
    halved = mlp.fc2.in_features < mlp.fc1.out_features
    return Layer(
        module=block,
        norm1=block.norm1,
        qkv_weight=attention.qkv.weight,
        qkv_bias=attention.qkv.bias,
        heads=attention.num_heads,
        out=attention.proj,
        scale1=_layer_scale(block, "ls1"),
        norm2=block.norm2,
        fc1=mlp.fc1,
        gate=_gated(mlp.act, last=mlp.gate_last) if halved else mlp.act,
        fc2=mlp.fc2,
        scale2=_layer_scale(block, "ls2"),
    )


def _read_open_clip(block: Any) -> Layer | None:
    """A residual attention block of open_clip."""
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    if not isinstance(attention, nn.MultiheadAttention) or not isinstance(mlp, nn.Sequential):
        return None
    parts: dict[str, Any] = dict(mlp.named_children())
    if (
        list(parts) != ["c_fc", "gelu", "c_proj"]
        or attention.in_proj_weight is None
        or not _normed(block, "ln_1", "ln_2")
    ):
        return None
    return Layer(
        module=block,
        norm1=block.ln_1,
        qkv_weight=attention.in_proj_weight,
        qkv_bias=attention.in_proj_bias,
        heads=attention.num_heads,
        out=attention.out_proj,
        scale1=_layer_scale(block, "ls_1"),
        norm2=block.ln_2,
        fc1=parts["c_fc"],
        gate=parts["gelu"],
        fc2=parts["c_proj"],
        scale2=_layer_scale(block, "ls_2"),
    )


def _layer_scale(block: nn.Module, name: str) -> Tensor | None:
    """Weight of a LayerScale (d,), or None where there is none."""
    return getattr(getattr(block, name, None), "gamma", None)


def _is_identity(owner: nn.Module | None, name: str) -> bool:
    """Whether an optional part of a block is absent or does nothing."""
    part = getattr(owner, name, None)
    return part is None or isinstance(part, nn.Identity)


def _normed(block: nn.Module, *names: str) -> bool:
    """Whether some parts of a block are LayerNorms over the last axis."""
    norms = [getattr(block, name, None) for name in names]
    return all(isinstance(norm, nn.LayerNorm) and len(norm.normalized_shape) == 1 for norm in norms)


def _gated(act: Callable[[Tensor], Tensor], *, last: bool) -> Callable[[Tensor], Tensor]:
    """Gate of a gated MLP (SwiGLU and its kin): one half of the hidden values multiplies the other."""

    def gate(hidden: Tensor) -> Tensor:
        first, second = hidden.chunk(2, dim=-1)
        return first * act(second) if last else act(first) * second

    return gate
