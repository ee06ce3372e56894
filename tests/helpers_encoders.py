"""Small real Vision Transformers for tests: the same modules as the big ones, a few thousand weights."""

from functools import partial

import torch
from torch import nn

from jepascore_core.encoders.checkpoint import weights_digest
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.encoders.random_weights import randomise_constants
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.encoders.timm_models import make_transform

KINDS = {"class token": 2, "registers": 2, "swiglu": 2, "mean": 1, "fc_norm": 2, "projection": 0, "quickgelu": 0}
"""Every kind of ending that ``tiny_vit`` builds, with the null dimension that it must have."""


def tiny_vit(
    kind: str = "class token",
    *,
    embed_dim: int = 32,
    depth: int = 2,
    num_heads: int = 2,
    input_size: int = 32,
    patch_size: int = 8,
    seed: int = 0,
) -> Encoder:
    """Build a shrunken encoder of a real family with random weights.

    Args:
        kind: ``class token`` (DINOv2, LayerScale), ``registers`` (DINOv2 with four), ``swiglu`` (DINOv2 giant),
            ``mean`` (I-JEPA), ``fc_norm`` (mean, then norm), ``projection`` (open_clip) or ``quickgelu`` (CLIP).
        embed_dim: Width; also D, but for the projections, whose D is half of it.
        depth: Number of blocks.
        num_heads: Attention heads.
        input_size: Side of the input in px.
        patch_size: Side of a patch in px.
        seed: Seed of the weights.

    Returns:
        A frozen encoder, float32, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind in ("projection", "quickgelu"):
            model = _open_clip_vit(kind, embed_dim, depth, num_heads, input_size, patch_size)
        else:
            model = _timm_vit(kind, embed_dim, depth, num_heads, input_size, patch_size)
        randomise_constants(model)
    dim = embed_dim // 2 if KINDS[kind] == 0 else embed_dim
    pooling = "projection" if KINDS[kind] == 0 else "mean" if kind in ("mean", "fc_norm") else "class token"
    size = (3, input_size, input_size)
    spec = EncoderSpec(f"test:{kind}", f"tiny {kind}", "test", dim, size, pooling, KINDS[kind], "none", "none")
    return Encoder(model, spec, make_transform(model, spec), weights_digest(model.state_dict()))


def _timm_vit(kind: str, width: int, depth: int, heads: int, side: int, patch: int) -> nn.Module:
    """A VisionTransformer of timm, as its DINOv2 and I-JEPA entries configure it."""
    from timm.layers import SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    norm = partial(nn.LayerNorm, eps=1e-6)
    options: dict[str, dict] = {
        "class token": {"init_values": 1e-5},
        "registers": {"init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True},
        "swiglu": {"init_values": 1e-5, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU},
        "mean": {"class_token": False, "global_pool": "avg", "fc_norm": False},
        "fc_norm": {"global_pool": "avg", "fc_norm": True},
    }
    return VisionTransformer(
        img_size=side, patch_size=patch, embed_dim=width, depth=depth, num_heads=heads, num_classes=0,
        norm_layer=norm, **options[kind],
    )  # fmt: skip


def _open_clip_vit(kind: str, width: int, depth: int, heads: int, side: int, patch: int) -> nn.Module:
    """An image tower of open_clip: norm before the blocks, projection behind them."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    return VisionTransformer(
        image_size=side, patch_size=patch, width=width, layers=depth, heads=heads, mlp_ratio=4.0,
        output_dim=width // 2, act_layer=QuickGELU if kind == "quickgelu" else nn.GELU,
    )  # fmt: skip
