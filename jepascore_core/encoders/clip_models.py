"""Image towers of open_clip: the projected image embedding before L2 normalisation."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from jepascore_core.encoders import checkpoint
from jepascore_core.encoders.download import WeightsSource
from jepascore_core.encoders.parts import Parts
from jepascore_core.encoders.presets import find_spec
from jepascore_core.encoders.random_weights import UnsetParameters, randomise_constants, seeded
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.encoders.timm_models import check_patch_size, default_pooling
from jepascore_core.encoders.transforms import Transform
from jepascore_core.errors import EncoderError


def canonical_name(name: str) -> str | None:
    """Check ``architecture/tag``, or an architecture alone, against open_clip's tables.

    Args:
        name: What follows ``open_clip:``.

    Returns:
        The name, or None when open_clip does not know it.
    """
    import open_clip

    architecture, _, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        return None
    return name if not tag or open_clip.is_pretrained_cfg(architecture, tag) else None


def weights_source(name: str) -> WeightsSource:
    """Say where open_clip publishes the weights.

    Args:
        name: A canonical name.

    Returns:
        Repository on the Hugging Face Hub, or web address, or neither.

    Raises:
        EncoderError: The name is an architecture alone, and there are several sets of weights for it.
    """
    import open_clip

    architecture, tag = _split(name)
    if not tag and (tags := open_clip.list_pretrained_tags_by_model(architecture)):
        names = ", ".join(f"open_clip:{architecture}/{tag}" for tag in tags[:3])
        raise EncoderError(
            f"open_clip:{architecture} does not say which weights to take; name them too, as in {names}."
        )
    config = open_clip.get_pretrained_cfg(architecture, tag)
    repo, _, filename = config.get("hf_hub", "").rpartition("/")
    default = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return WeightsSource(f"open_clip:{name}", repo or None, (filename,) if filename else default, config.get("url"))


def skeleton(name: str) -> nn.Module:
    """Build the image tower alone.

    Args:
        name: A canonical name.

    Returns:
        The module, on the default device; on ``meta`` nothing is allocated.
    """
    return _create(_split(name)[0], None)


def build(name: str, *, weights: Path | None, input_size: int | None = None) -> Parts:
    """Build an image tower from a file of weights, or with random ones; the text tower is never made.

    Args:
        name: A canonical name.
        weights: File with the weights of both towers or of the image tower; None draws them at random,
            the same each time.
        input_size: Side of the input in px; None takes the architecture's own.

    Returns:
        The pieces of the encoder, on the CPU.

    Raises:
        EncoderError: The architecture does not suit the weights or the input size, or the file does not fit.
    """
    architecture, tag = _split(name)
    _check_activation(architecture, tag)
    if input_size is not None:
        with torch.device("meta"):
            probe = _create(architecture, None)
        patches = getattr(getattr(probe, "trunk", probe), "patch_embed", probe)
        check_patch_size(getattr(patches, "patch_size", None), input_size, f"open_clip:{name}")
    if weights is None:
        with seeded():
            model = _create(architecture, input_size)
            randomise_constants(model)
        digest = checkpoint.weights_digest(model.state_dict())
    else:
        with UnsetParameters():
            model = _create(architecture, input_size)
        state = checkpoint.read_state(weights, model.state_dict())
        digest = checkpoint.weights_digest(state)
        checkpoint.load_state(model, _resampled(state, model), path=weights, name=name)
    if input_size is not None and hasattr(model, "trunk"):
        model.set_input_size(input_size)  # timm resamples the position embedding
    preset = find_spec(f"open_clip:{name}")
    side = input_size or _side(model)
    spec = dataclasses.replace(preset or _derived_spec(name, model), input_size=(3, side, side))
    return Parts(model, spec, preset is not None, make_transform(architecture, tag, side), digest)


def make_transform(architecture: str, tag: str, side: int) -> Transform:
    """Make open_clip's evaluation transform.

    Args:
        architecture: Name of the model.
        tag: Name of its weights, which carry mean, std and the way of resizing; may be empty.
        side: Side of the input in px.

    Returns:
        PIL image -> (C, H, W) float32.
    """
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    published = open_clip.get_pretrained_cfg(architecture, tag) if tag else {}
    config = PreprocessCfg(**merge_preprocess_dict(merge_preprocess_dict(PreprocessCfg(), published), {"size": side}))
    return Transform(image_transform_v2(config, is_train=False), crops=config.resize_mode == "shortest")


def _split(name: str) -> tuple[str, str]:
    """Architecture and tag."""
    architecture, _, tag = name.partition("/")
    return architecture, tag


def _side(tower: Any) -> int:
    """Side of the input that a tower was built for, in px."""
    size = tower.image_size
    return int(size if isinstance(size, int) else size[0])


def _create(architecture: str, input_size: int | None) -> Any:
    """Build the image tower alone, as open_clip's own models do."""
    import open_clip
    from open_clip.model import _build_vision_tower

    config = open_clip.get_model_config(architecture)
    vision: dict[str, Any] = config["vision_cfg"]
    if input_size is not None and "timm_model_name" not in vision:
        vision["image_size"] = input_size
    vision["timm_model_pretrained"] = False
    tower = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    tower.output_tokens = False  # CoCa would return its tokens too
    return tower


def _check_activation(architecture: str, tag: str) -> None:
    """Refuse weights trained with the other GELU: open_clip only warns, and every score would be off."""
    import open_clip

    if not tag:
        return
    trained = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
    built = open_clip.get_model_config(architecture).get("quick_gelu", False)
    if trained != built:
        plain = architecture.removesuffix("-quickgelu")
        other = f"{plain}-quickgelu" if trained else plain
        kind = "quick GELU" if trained else "exact GELU"
        raise EncoderError(
            f"The weights {tag} were trained with {kind}, which {architecture} lacks; use open_clip:{other}/{tag}."
        )


def _resampled(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Resample the position embedding to another grid, with open_clip's own function."""
    from open_clip.model import resize_pos_embed

    if "positional_embedding" not in state:
        return state
    whole = {"visual.positional_embedding": state["positional_embedding"].float()}
    resize_pos_embed(whole, SimpleNamespace(visual=model))
    return {**state, "positional_embedding": whole["visual.positional_embedding"]}


def _derived_spec(name: str, model: Any) -> EncoderSpec:
    """Spec of an architecture that is not in our table; D and null dimension are measured later."""
    projected = getattr(model, "proj", None) is not None or len(getattr(model, "head", ())) > 0
    pooling = "projection" if projected else default_pooling(getattr(model, "trunk", model))
    return EncoderSpec(
        id=f"open_clip:{name}",
        name=name,
        family="open_clip",
        embedding_dim=0,
        input_size=(3, 0, 0),
        pooling=pooling,
        null_dim=0,
        licence="see its model card",
        paper="see its model card",
    )
