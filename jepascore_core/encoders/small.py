"""The small encoders that this project trains, a convnet and a Vision Transformer, and their checkpoint file.

The file is safetensors: weights of more than one axis in float16, norms and biases in float32 (they are few,
and a running variance may lie below float16's range). Its metadata hold, as text, the architecture, what built
it, its spec and its preprocessing, so that the file alone is enough to use the encoder.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.errors import EncoderError
from jepascore_core.files import written_aside

NETWORKS: dict[str, dict[str, Any]] = {
    "convnet": {"channels": [24, 48, 96, 192]},
    "vit": {"patch_size": 8, "width": 128, "depth": 6, "heads": 4},
}
"""What ``build_small`` takes for the networks that we train, beside ``embedding_dim`` and ``input_size``."""

PREPROCESS = {"input_size": 48, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
"""One mean and one std for all channels. Dividing the input by s multiplies every singular value by
s, so this choice moves every score by the same D · log s and never changes an order."""


_MOST_SIDE, _MOST_WIDTH, _MOST_DEPTH = 4096, 8192, 64  # of what a file may ask for: far beyond what is small


class SmallConvNet(nn.Module):
    """Stages of two 3×3 convolutions, the first with stride 2, then average pool and a linear map.

    Args:
        channels: Width of each stage; each halves the side of the image.
        embedding_dim: D.
    """

    def __init__(self, channels: tuple[int, ...], embedding_dim: int) -> None:
        super().__init__()
        widths = (3, *channels)
        self.stages = nn.Sequential(*(_stage(widths[i], widths[i + 1]) for i in range(len(channels))))
        self.head = nn.Linear(channels[-1], embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images.

        Args:
            images: (B, 3, H, W), normalised as ``PREPROCESS`` says.

        Returns:
            Embeddings (B, D).
        """
        return self.head(self.stages(images).mean(dim=(2, 3)))


def _stage(width_in: int, width_out: int) -> nn.Sequential:
    """Halve the side, then mix: conv stride 2, conv stride 1, each with batch norm and GELU."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.GELU(),
        nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.GELU(),
    )


def build_small(config: dict[str, Any], *, any_size: bool = False) -> nn.Module:
    """Build an encoder with fresh weights.

    Args:
        config: ``channels`` (list of widths) and ``embedding_dim`` for the convnet; ``patch_size`` and
            ``input_size`` (px), ``width``, ``depth``, ``heads`` and ``embedding_dim`` for the Vision Transformer.
        any_size: Take images of any side that patches divide, the positions interpolated; for the Vision Transformer.

    Returns:
        The module, in training mode.
    """
    if "channels" in config:
        return SmallConvNet(tuple(config["channels"]), int(config["embedding_dim"]))
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=config["input_size"],
        patch_size=config["patch_size"],
        embed_dim=config["width"],
        depth=config["depth"],
        num_heads=config["heads"],
        num_classes=config["embedding_dim"],
        global_pool="avg",
        class_token=False,
        dynamic_img_size=any_size,
    )


def save_checkpoint(
    path: Path, model: nn.Module, *, config: dict[str, Any], spec: EncoderSpec, preprocess: dict[str, Any]
) -> None:
    """Write an encoder file, aside first and then renamed.

    Args:
        path: Where to write; ends in ``.safetensors``.
        model: A module that ``build_small(config)`` made.
        config: What ``build_small`` takes.
        spec: What is known of the encoder.
        preprocess: What ``small_transform`` takes.
    """
    from safetensors.torch import save

    tensors = {
        name: value.detach().cpu().contiguous().to(torch.float16 if value.ndim > 1 else value.dtype)
        for name, value in model.state_dict().items()
    }
    metadata = {
        "architecture": "small",
        "config": json.dumps(config),
        "spec": json.dumps(asdict(spec)),
        "preprocess": json.dumps(preprocess),
    }
    with written_aside(path) as aside:
        aside.write_bytes(save(tensors, metadata=metadata))


def read_metadata(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself, without its weights.

    Args:
        path: A safetensors file.

    Returns:
        ``architecture`` (str), ``config`` (dict), ``spec`` (``EncoderSpec``), ``preprocess`` (dict).

    Raises:
        EncoderError: Missing, damaged, or not written by ``save_checkpoint``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{path} is not a safetensors file that can be read ({error}).") from error
    try:
        spec, config, preprocess = (json.loads(text[name]) for name in ("spec", "config", "preprocess"))
        found = EncoderSpec(**{**spec, "input_size": tuple(spec["input_size"])})
        sound = _is_spec(found) and _is_config(config) and _is_preprocess(preprocess)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise EncoderError(f"{path} does not say which encoder it holds; it was not written by `train`.") from error
    if not sound:
        raise EncoderError(f"{path} says of its encoder what cannot be; it was not written by `train`, or is damaged.")
    return {"architecture": text["architecture"], "config": config, "spec": found, "preprocess": preprocess}


def _is_spec(spec: EncoderSpec) -> bool:
    """Whether a spec that a file holds is one of a small encoder."""
    texts = (spec.id, spec.name, spec.family, spec.pooling, spec.licence, spec.paper)
    sized = len(spec.input_size) == 3 and all(_in(value, 1, _MOST_SIDE) for value in spec.input_size)
    whole = _in(spec.embedding_dim, 1, _MOST_WIDTH) and _in(spec.null_dim, 0, _MOST_WIDTH)
    return sized and whole and all(isinstance(text, str) for text in texts)


def _is_config(config: Any) -> bool:
    """Whether ``build_small`` can build what a file asks for."""
    if not isinstance(config, dict) or not _in(config.get("embedding_dim"), 1, _MOST_WIDTH):
        return False
    if "channels" in config:
        channels = config["channels"]
        listed = isinstance(channels, list) and 0 < len(channels) <= _MOST_DEPTH
        return listed and all(_in(width, 1, _MOST_WIDTH) for width in channels)
    limits = {
        "input_size": _MOST_SIDE,
        "patch_size": _MOST_SIDE,
        "width": _MOST_WIDTH,
        "depth": _MOST_DEPTH,
        "heads": 256,
    }
    if not all(_in(config.get(name), 1, most) for name, most in limits.items()):
        return False
    return config["input_size"] % config["patch_size"] == 0 and config["width"] % config["heads"] == 0


def _is_preprocess(preprocess: Any) -> bool:
    """Whether ``small_transform`` can prepare images as a file asks for."""
    if not isinstance(preprocess, dict) or not _in(preprocess.get("input_size"), 1, _MOST_SIDE):
        return False
    lists: list[Any] = [preprocess.get(name) for name in ("mean", "std")]
    if not all(isinstance(held, list) and len(held) == 3 for held in lists):
        return False
    plain = all(type(value) in (int, float) and abs(value) < 1e6 for held in lists for value in held)
    return plain and all(value > 1e-6 for value in lists[1])


def _in(value: Any, least: int, most: int) -> bool:
    """Whether a value is a whole number between two others."""
    return type(value) is int and least <= value <= most


def load_small(path: Path) -> nn.Module:
    """Read the encoder of a checkpoint back, in float32 and eval mode.

    Args:
        path: A file that ``save_checkpoint`` wrote.

    Returns:
        The module on the CPU.

    Raises:
        EncoderError: Missing, damaged, of another architecture, or weights that do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    metadata = read_metadata(path)
    if metadata["architecture"] != "small":
        raise EncoderError(f"{path} holds a {metadata['architecture']!r} encoder, not a small one of ours.")
    with torch.device("meta"):  # no weights are drawn, so the caller's random state stays
        model = build_small(metadata["config"])
    try:
        model.load_state_dict(load_file(path), assign=True)
    except (RuntimeError, OSError, SafetensorError) as error:
        raise EncoderError(f"The weights in {path} do not fit the encoder that it names.") from error
    return model.float().eval()


def small_transform(preprocess: dict[str, Any]) -> Callable[[Image.Image], Tensor]:
    """Make the transform of a checkpoint.

    Args:
        preprocess: ``input_size`` in px, ``mean`` and ``std`` of each channel for values in [0, 1].

    Returns:
        PIL image -> (3, S, S) float32: shorter side resized to S (bicubic, antialiased), centre
        cropped, normalised.
    """
    size = int(preprocess["input_size"])
    mean = torch.tensor(preprocess["mean"]).view(3, 1, 1)
    std = torch.tensor(preprocess["std"]).view(3, 1, 1)

    def transform(image: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(square(image, size))).permute(2, 0, 1)
        return (pixels / 255 - mean) / std

    return transform


def square(image: Image.Image, size: int) -> Image.Image:
    """Centre square of an image, resized (bicubic, antialiased).

    Args:
        image: Any mode and size.
        size: Side of the result in px.

    Returns:
        (size, size) RGB.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    colour = image if image.mode == "RGB" else image.convert("RGB")  # both would copy a hundred megapixels for nothing
    cropped = colour if colour.size == (side, side) else colour.crop((left, top, left + side, top + side))
    return cropped.resize((size, size), Image.Resampling.BICUBIC)
