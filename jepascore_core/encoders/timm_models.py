"""Encoders of timm: any architecture, without its classifier."""

import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jepascore_core.encoders import checkpoint
from jepascore_core.encoders.download import WeightsSource
from jepascore_core.encoders.messages import reason
from jepascore_core.encoders.parts import Parts
from jepascore_core.encoders.presets import find_spec
from jepascore_core.encoders.random_weights import UnsetParameters, randomise_constants, seeded
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.encoders.transforms import Transform
from jepascore_core.errors import EncoderError


def canonical_name(name: str) -> str | None:
    """Complete an architecture to ``architecture.tag`` with timm's default tag.

    Args:
        name: ``architecture`` or ``architecture.tag``.

    Returns:
        The full name (without a tag where timm has no weights at all), or None when timm does not know it.
    """
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        return None
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # unknown tag
        return None
    tag = tag or (config is not None and config.tag) or ""
    return f"{architecture}.{tag}" if tag else architecture


def weights_source(name: str) -> WeightsSource:
    """Say where timm publishes the weights.

    Args:
        name: A canonical name.

    Returns:
        Repository on the Hugging Face Hub, or web address, or neither.
    """
    config = _config(name)
    filenames = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    return WeightsSource(f"timm:{name}", config.hf_hub_id, filenames, config.url or None)


def skeleton(name: str) -> nn.Module:
    """Build the network alone, without its classifier.

    Args:
        name: A canonical name.

    Returns:
        The module, on the default device; on ``meta`` nothing is allocated.

    Raises:
        EncoderError: timm cannot build it.
    """
    return _create({"model_name": name, "num_classes": 0})


def build(name: str, *, weights: Path | None, input_size: int | None = None) -> Parts:
    """Build an encoder from a file of weights, or with random ones.

    Args:
        name: A canonical name.
        weights: File with the weights; None draws them at random, the same each time.
        input_size: Side of the input in px; None takes the preset's, or timm's default.

    Returns:
        The pieces of the encoder, on the CPU.

    Raises:
        EncoderError: The input size does not suit the architecture, or the file does not fit it.
    """
    preset = find_spec(f"timm:{name}")
    config = _config(name)
    spec = preset or _derived_spec(name, config)
    if input_size is not None:
        spec = replace(spec, input_size=(3, input_size, input_size))
    arguments = _arguments(name, spec, config.fixed_input_size, declared=preset is not None)
    if weights is None:
        with seeded():
            model = _create(arguments)
            randomise_constants(model)
        digest = checkpoint.weights_digest(model.state_dict())
    else:
        with UnsetParameters():
            model = _create(arguments)
        state = checkpoint.read_state(weights, model.state_dict())
        digest = checkpoint.weights_digest(state)
        checkpoint.load_state(model, _in_timm_names(state, model, name), path=weights, name=name)
    return Parts(model, spec, preset is not None, make_transform(model, spec), digest)


def make_transform(model: nn.Module, spec: EncoderSpec) -> Transform:
    """Make timm's evaluation transform for the spec's input size.

    Args:
        model: A model of timm.
        spec: Its spec.

    Returns:
        PIL image -> (C, H, W) float32.
    """
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(model, args={"input_size": spec.input_size})
    return Transform(create_transform(**config, is_training=False), crops=config["crop_mode"] == "center")


def default_pooling(model: nn.Module) -> str:
    """Name how a model pools, where no final norm tells.

    Args:
        model: A model of timm, or an image tower of open_clip.

    Returns:
        ``class token``, ``attention`` or ``average pool``.
    """
    if getattr(model, "attn_pool", None) is not None or hasattr(model, "attnpool"):  # ViTs, CLIP's ResNets
        return "attention"
    return "class token" if getattr(model, "global_pool", None) == "token" else "average pool"


def _config(name: str) -> Any:
    """What timm publishes about the weights; its defaults where it has none."""
    import timm
    from timm.models import PretrainedCfg

    return timm.get_pretrained_cfg(name) or PretrainedCfg()


def _derived_spec(name: str, config: Any) -> EncoderSpec:
    """Spec of an architecture that is not in our table; D, pooling and null dimension are measured later."""
    return EncoderSpec(
        id=f"timm:{name}",
        name=name,
        family="timm",
        embedding_dim=0,
        input_size=tuple(config.input_size),
        pooling="",
        null_dim=0,
        licence=config.license or "see its model card",
        paper=config.paper_ids or config.paper_name or "see its model card",
    )


def _arguments(name: str, spec: EncoderSpec, fixed_size: bool, *, declared: bool) -> dict[str, Any]:
    """Arguments for ``timm.create_model``, tried on the meta device, where nothing is allocated."""
    side = spec.input_size[1]
    arguments: dict[str, Any] = {"model_name": name, "num_classes": 0}
    if fixed_size:
        arguments["img_size"] = side
    with torch.device("meta"):
        probe = _create(arguments)
    check_patch_size(getattr(getattr(probe, "patch_embed", None), "patch_size", None), side, spec.id)
    if declared and spec.pooling == "class token" and getattr(probe, "global_pool", "token") != "token":
        arguments["global_pool"] = "token"  # timm averages the patches of DINOv3; its authors use the class token
    return arguments


def check_patch_size(patch_size: Any, side: int, encoder_id: str) -> None:
    """Make sure that patches tile the image.

    Args:
        patch_size: Side of a patch in px, or (height, width), or None for an encoder without patches.
        side: Side of the image in px.
        encoder_id: For the message.

    Raises:
        EncoderError: They do not.
    """
    patch = patch_size[0] if isinstance(patch_size, tuple | list) else patch_size
    if patch and side % patch:
        lower, upper = side // patch * patch, (side // patch + 1) * patch
        choices = f"{lower} or {upper}" if lower else str(upper)
        raise EncoderError(
            f"An input of {side} px is not a multiple of the {patch} px patches of {encoder_id}; take {choices}."
        )


def _create(arguments: dict[str, Any]) -> nn.Module:
    """Create a model of timm; whatever it objects to becomes one sentence."""
    import timm

    try:
        return timm.create_model(**arguments)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        size = f" at {arguments['img_size']} px" if "img_size" in arguments else ""
        raise EncoderError(f"timm cannot build {arguments['model_name']}{size} ({reason(error)}).") from error


def _in_timm_names(state: dict[str, Tensor], model: nn.Module, name: str) -> dict[str, Tensor]:
    """Rename and resample weights with the architecture's own filter: original releases, position embeddings."""
    import timm

    module = sys.modules[timm.models.model_entrypoint(name.partition(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    parameters = inspect.signature(convert).parameters
    options = {"adapt_layer_scale": True} if "adapt_layer_scale" in parameters else {}
    try:
        return convert(state, model, **options)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, AssertionError):
        return state  # not a layout that the filter knows; load_state says what is missing
