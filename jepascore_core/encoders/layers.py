"""Encoders cut off behind one of their layers, so that the layer's features can be scored like any embedding.

``<encoder id>@layer<l>`` is the network up to and with block l of a Vision Transformer, or stage l of our small
convnet, pooled as the encoder pools: the class token, the mean of the same tokens, or the mean over the image. What
stands behind the last layer is left out: final norms, projection, classifier. So a layer's embedding has no norm of its
own, its length is the width of the network, and its null dimension is measured when it is loaded, as for any encoder
that is not in the table. An attention pool, which was trained for the last layer alone, gives way to the mean of the
patches. The last layer is the encoder itself, with everything that stands behind it.

Why each layer is a run of its own, and not one sweep for all: pulling the cotangents of layer l back passes only the
blocks up to l, so that the sweeps of all layers share nothing but the forward pass, which is one in D of a sweep, and
each block's maps of its MLP. In return everything that knows runs (resuming, error bars, precision, pages, pairs of
images) knows layers.
"""

from dataclasses import replace
from typing import Any

from torch import nn

from jepascore_core.encoders.names import layer_digest, with_layer
from jepascore_core.encoders.parts import Parts
from jepascore_core.errors import EncoderError


def count_layers(model: nn.Module) -> int:
    """Layers that can be scored by themselves, the last of which is the encoder itself.

    Args:
        model: A library's own module; its weights may be absent (meta device).

    Returns:
        Blocks of a plain Vision Transformer of timm or open_clip, or stages of our small convnet; 0 for any other.
    """
    layers = _layers(_trunk(model))
    return 0 if layers is None else len(layers)


def layer_width(model: nn.Module, layer: int) -> int:
    """Embedding size of one layer.

    Args:
        model: A module that has layers.
        layer: Its number, from 1; not the last.

    Returns:
        D.
    """
    trunk: Any = _trunk(model)
    if _is_convnet(trunk):
        return int(trunk.stages[layer - 1][0].out_channels)
    return int(trunk.embed_dim if hasattr(trunk, "embed_dim") else trunk.conv1.out_channels)


def cut_behind(parts: Parts, layer: int) -> Parts:
    """Cut an encoder off behind one of its layers.

    Args:
        parts: The pieces of the whole encoder; its model is changed in place.
        layer: Number of the layer, from 1.

    Returns:
        The pieces of the shorter encoder, its D and null dimension still to be measured; the same pieces for the last
        layer.

    Raises:
        EncoderError: The encoder has no layers that we know, or not so many.
    """
    spec, count = parts.spec, count_layers(parts.model)
    check_layer(spec.id, layer, count)
    if layer == count:
        return parts
    model, pooling = _cut(_trunk(parts.model), layer)
    digest = layer_digest(parts.digest, layer, pooling)
    name = f"{spec.name}, layer {layer} of {count}"
    shorter = replace(spec, id=with_layer(spec.id, layer), name=name, embedding_dim=0, pooling=pooling, null_dim=0)
    return replace(parts, model=model, spec=shorter, declared=False, digest=digest)


def check_layer(encoder_id: str, layer: int, count: int) -> None:
    """Refuse a layer that an encoder has not.

    Args:
        encoder_id: For the message.
        layer: What was asked for.
        count: What ``count_layers`` says.

    Raises:
        EncoderError: There is no such layer.
    """
    if not count:
        raise EncoderError(
            f"{encoder_id} has no layers that can be scored by themselves; plain Vision Transformers of timm and "
            "open_clip and this project's own encoders have."
        )
    if not 1 <= layer <= count:
        raise EncoderError(f"{encoder_id} has layers 1 to {count}, and no layer {layer}.")


def _trunk(model: nn.Module) -> nn.Module:
    """The network behind open_clip's wrapper of timm's models."""
    return model.trunk if type(model).__name__ == "TimmModel" and isinstance(model.trunk, nn.Module) else model


def _layers(trunk: Any) -> nn.Sequential | nn.ModuleList | None:
    """The blocks or stages of a network that we know how to cut."""
    if _is_convnet(trunk):
        return trunk.stages
    if _is_timm(trunk):
        return trunk.blocks
    return trunk.transformer.resblocks if _is_clip(trunk) else None


def _is_convnet(trunk: nn.Module) -> bool:
    """Our own small convnet."""
    from jepascore_core.encoders.small import SmallConvNet

    return isinstance(trunk, SmallConvNet)


def _is_timm(trunk: nn.Module) -> bool:
    """A plain Vision Transformer of timm, or its kin with rotary positions; subclasses may pool in other ways."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    return type(trunk) in (VisionTransformer, Eva)


def _is_clip(trunk: nn.Module) -> bool:
    """An image tower of open_clip's own."""
    from open_clip.transformer import VisionTransformer

    return type(trunk) is VisionTransformer


def _cut(trunk: Any, layer: int) -> tuple[nn.Module, str]:
    """The network without what stands behind a layer, and how it pools."""
    if _is_convnet(trunk):
        trunk.stages, trunk.head = trunk.stages[:layer], nn.Identity()
        return trunk, "average pool"
    if _is_timm(trunk):
        trunk.blocks = trunk.blocks[:layer]
        trunk.norm = trunk.fc_norm = trunk.head = nn.Identity()
        if trunk.attn_pool is not None:
            trunk.attn_pool, trunk.global_pool = None, "avg"
        return trunk, "class token" if trunk.global_pool == "token" else "mean"
    trunk.transformer.resblocks = trunk.transformer.resblocks[:layer]
    trunk.ln_post, trunk.proj = nn.Identity(), None
    if trunk.attn_pool is not None:
        trunk.attn_pool, trunk.pool_type = None, "avg"
    return trunk, "class token" if trunk.pool_type == "tok" else "mean"
