"""From an id to a frozen encoder."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from jepascore_core.allowed import check_path
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.encoders.layers import check_layer, count_layers, cut_behind, layer_width
from jepascore_core.encoders.messages import reason
from jepascore_core.encoders.names import EncoderId, parse, with_layer
from jepascore_core.encoders.null_space import Ending, find_ending
from jepascore_core.encoders.parts import Parts
from jepascore_core.encoders.presets import find_spec
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.errors import EncoderError
from jepascore_core.files import expanded

WEIGHTS = Path(__file__).parent.parent / "weights"
SIDE_LIMITS = (8, 4096)


def load_encoder(
    encoder_id: str,
    *,
    device: str | torch.device = "cpu",
    pretrained: bool = True,
    input_size: int | None = None,
    check: bool = True,
) -> Encoder:
    """Load an encoder and make sure that its null dimension is what its spec declares.

    Args:
        encoder_id: ``timm:...``, ``open_clip:...``, ``demo:...`` or ``file:...``; a bare name where only
            one library can mean it. ``@layer<l>`` behind it cuts the encoder off (``encoders.layers``).
        device: Where to put it, such as ``cpu`` or ``cuda``.
        pretrained: False draws random weights, the same each time, so that every block matters.
        input_size: Side of the input in px, instead of the encoder's own; position embeddings are resampled.
        check: Run one image to check the declared null dimension. Encoders that are not in the table
            are always run, since theirs is measured.

    Returns:
        The frozen encoder in eval mode, float32.

    Raises:
        EncoderError: Unknown, out of reach, gated, not fitting, or not as declared; one sentence.
    """
    if input_size is not None and not SIDE_LIMITS[0] <= input_size <= SIDE_LIMITS[1]:
        raise EncoderError(f"An input size of {input_size} px is not between {SIDE_LIMITS[0]} and {SIDE_LIMITS[1]}.")
    identity = parse(encoder_id)
    parts = _build(replace(identity, layer=None), pretrained, input_size)
    if identity.layer is not None:
        parts = cut_behind(parts, identity.layer)
    parts = replace(parts, model=_move(parts.model.eval().requires_grad_(False), device))
    if check or not parts.declared:
        parts = _checked(parts)
    return Encoder(parts.model, parts.spec, parts.transform, parts.digest).eval()


def list_layers(encoder_id: str) -> list[tuple[str, int | None]]:
    """The layers of an encoder that can be scored by themselves; no weights are read or drawn.

    Args:
        encoder_id: As ``load_encoder`` takes it; that of a layer means its encoder.

    Returns:
        Id and embedding size of each layer, first to last; the last is the encoder itself, whose size is None where our
        table does not know it.

    Raises:
        EncoderError: The encoder is unknown, or has no layers that we know.
    """
    identity = replace(parse(encoder_id), layer=None)
    with torch.device("meta"):
        model = _skeleton(identity)
    whole, count = str(identity), count_layers(model)
    check_layer(whole, count, count)
    known = find_spec(whole)
    shorter = [(with_layer(whole, layer), layer_width(model, layer)) for layer in range(1, count)]
    return [*shorter, (whole, known.embedding_dim if known else None)]


def _skeleton(identity: EncoderId) -> torch.nn.Module:
    """The network of an encoder, on whatever device is the default."""
    from jepascore_core.encoders import clip_models, timm_models
    from jepascore_core.encoders.small import build_small, read_metadata

    if identity.architecture is not None:
        return _skeleton(identity.architecture)
    if identity.scheme in ("timm", "open_clip"):
        return {"timm": timm_models, "open_clip": clip_models}[identity.scheme].skeleton(identity.name)
    path = WEIGHTS / f"{identity.name}.safetensors" if identity.scheme == "demo" else _named_file(identity)
    _require_own_checkpoint(path)
    return build_small(read_metadata(path)["config"])


def _build(identity: EncoderId, pretrained: bool, input_size: int | None) -> Parts:
    """Build an encoder with the adapter of its scheme."""
    if identity.scheme == "demo":
        return _small(WEIGHTS / f"{identity.name}.safetensors", identity, pretrained, input_size)
    if identity.scheme == "file":
        path = _named_file(identity)
        if identity.architecture is None:
            return _small(path, identity, pretrained, input_size)
        parts = _from_library(identity.architecture, path if pretrained else None, input_size)
        name = f"{path.name} ({parts.spec.name})"
        return replace(parts, spec=replace(parts.spec, id=str(identity), name=name, licence="see the file's source"))
    return _from_library(identity, _published(identity) if pretrained else None, input_size)


def _named_file(identity: EncoderId) -> Path:
    """Path of a file of weights, if it may be read.

    Raises:
        EncoderError: It may not.
    """
    path = expanded(identity.name)
    check_path(path, EncoderError)
    return path


def _from_library(identity: EncoderId, weights: Path | None, input_size: int | None) -> Parts:
    """Build an encoder of timm or open_clip; None for random weights."""
    from jepascore_core.encoders import clip_models, timm_models

    library = {"timm": timm_models, "open_clip": clip_models}[identity.scheme]
    return library.build(identity.name, weights=weights, input_size=input_size)


def _published(identity: EncoderId) -> Path:
    """Find or download the weights that a library publishes."""
    from jepascore_core.encoders import clip_models, timm_models
    from jepascore_core.encoders.download import fetch

    library = {"timm": timm_models, "open_clip": clip_models}[identity.scheme]
    return fetch(library.weights_source(identity.name))


def _small(path: Path, identity: EncoderId, pretrained: bool, input_size: int | None) -> Parts:
    """Build the small convnet from a checkpoint of our own trainer, which carries its spec."""
    from jepascore_core.encoders.checkpoint import weights_digest
    from jepascore_core.encoders.random_weights import randomise_constants, seeded
    from jepascore_core.encoders.small import build_small, load_small, read_metadata, small_transform

    _require_own_checkpoint(path)
    metadata = read_metadata(path)
    if pretrained:
        model = load_small(path)
    else:
        with seeded():
            model = build_small(metadata["config"])
            randomise_constants(model)
    preprocess = metadata["preprocess"]
    if input_size is not None:
        preprocess = {**preprocess, "input_size": input_size}
    side = preprocess["input_size"]
    spec = replace(metadata["spec"], id=str(identity), input_size=(3, side, side))
    return Parts(model, spec, True, small_transform(preprocess), weights_digest(model.state_dict()))


def _require_own_checkpoint(path: Path) -> None:
    """Refuse a missing file, or one that does not carry its architecture, and say how to name it."""
    if not os.path.isfile(path):  # noqa: PTH113 - never raises, also for names that no file system takes
        raise EncoderError(f"There is no weights file {path}.")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            if "architecture" in (file.metadata() or {}):
                return
    except (OSError, SafetensorError) as error:
        if path.suffix == ".safetensors":
            raise EncoderError(f"{path} cannot be read as safetensors ({reason(error)}).") from error
    raise EncoderError(
        f"{path} does not say which encoder it holds: name it file:{path}@<encoder id>, "
        f"for example file:{path}@timm:vit_small_patch14_dinov2.lvd142m."
    )


def _move(model: torch.nn.Module, device: str | torch.device) -> torch.nn.Module:
    """Put a network on a device, in float32."""
    try:
        return model.to(device, torch.float32)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise EncoderError(f"The device {str(device)!r} cannot hold this encoder ({reason(error)}).") from error


def _checked(parts: Parts) -> Parts:
    """Run one random image: check what the spec declares, or fill in what it leaves open."""
    spec = parts.spec
    parameter = next(parts.model.parameters())
    image = torch.randn(spec.input_size, generator=torch.Generator().manual_seed(0)).to(parameter)
    try:
        ending = find_ending(parts.model, image)
    except EncoderError as error:
        raise EncoderError(f"{spec.id}: {error}") from error
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise EncoderError(f"{spec.id} does not take an image of {spec.input_size[1]} px ({reason(error)}).") from error
    if not parts.declared:
        return replace(parts, spec=_completed(spec, ending, parts.model))
    for what, declared, found in (
        ("an embedding of", spec.embedding_dim, ending.embedding_dim),
        ("a null dimension of", spec.null_dim, ending.null_dim),
    ):
        if declared != found:
            raise EncoderError(f"{spec.id} declares {what} {declared}, but one image shows {found}.")
    return parts


def _completed(spec: EncoderSpec, ending: Ending, model: torch.nn.Module) -> EncoderSpec:
    """Fill in what was measured for an encoder that is not in the table."""
    from jepascore_core.encoders.timm_models import default_pooling

    measured = None if ending.pooling == "pooled" else ending.pooling
    pooling = measured or spec.pooling or default_pooling(model)
    return replace(spec, embedding_dim=ending.embedding_dim, pooling=pooling, null_dim=ending.null_dim)
