"""The images of a training, as tensors: read, resized, normalised, embedded."""

import numpy as np
import torch
from torch import Tensor, nn

from jepascore_core.datasets.base import Dataset, sample
from jepascore_core.encoders.small import PREPROCESS, square
from jepascore_core.errors import ImageError

VIEW_MARGIN = 4 / 3  # images are kept this much larger than the encoder's input, to crop views from


def training_images(
    source: str | Dataset, *, input_size: int, limit: int, seed: int, hold_out_every: int = 0
) -> Tensor:
    """Read the images to train on, square, a third larger than the encoder's input.

    Args:
        source: A dataset or its id; ``demo:photos`` means its training crops, never the held-out third.
        input_size: Side of the encoder's input in px.
        limit: Most images to take.
        seed: Seed of the sample when there are more.
        hold_out_every: See ``split_classes``.

    Returns:
        (N, 3, S, S) uint8 on the CPU, S = 4/3 · input size, or the side of the first image if it lies between that
        and the input size; images that cannot be read are left out.
    """
    size = round(input_size * VIEW_MARGIN)
    if source == "demo:photos":
        from jepascore_core.datasets.demo_photos import training_crops

        return torch.from_numpy(training_crops(size)).permute(0, 3, 1, 2).contiguous()
    if isinstance(source, str):
        from jepascore_core.datasets import load_dataset

        source = load_dataset(source)
    pixels: list[np.ndarray] = []
    classes, _ = split_classes(source, hold_out_every)
    for item in sample(source.items, limit=limit, seed=seed, classes=classes):
        try:
            image = source.read(item)
        except ImageError:
            continue
        if not pixels:
            size = min(size, max(input_size, min(image.size)))
        pixels.append(np.asarray(square(image, size)))
    if not pixels:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def split_classes(dataset: Dataset, hold_out_every: int) -> tuple[list[str], list[str]]:
    """Split a dataset's classes in those to train on and those held out.

    Args:
        dataset: Any.
        hold_out_every: n holds out every n-th class by name, from the n-th on; 0 none.

    Returns:
        Names of the classes to train on and of those held out, sorted.
    """
    names = sorted({item.class_name for item in dataset.items})
    held_out = names[hold_out_every - 1 :: hold_out_every] if hold_out_every else []
    return [name for name in names if name not in held_out], held_out


def embed(model: nn.Module, images: Tensor, input_size: int) -> Tensor:
    """Embed whole images, without augmentation, as the encoder will be used.

    Args:
        model: The encoder in eval mode.
        images: (N, 3, S, S) uint8.
        input_size: Side of the encoder's input in px.

    Returns:
        (N, D) float32 on the CPU.
    """
    with torch.inference_mode():
        return torch.cat([model(normalise(resize(batch, input_size))).cpu() for batch in images.split(256)])


def resize(images: Tensor, size: int) -> Tensor:
    """Resize kept images to the encoder's input, bicubic, antialiased.

    Args:
        images: (N, 3, S, S) uint8.
        size: Side of the result in px.

    Returns:
        (N, 3, size, size) in [0, 1].
    """
    pixels = images.float() / 255
    return nn.functional.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def normalise(pixels: Tensor) -> Tensor:
    """Normalise as ``PREPROCESS`` says.

    Args:
        pixels: (N, 3, H, W) in [0, 1].

    Returns:
        The encoder's input, of the same shape.
    """
    mean, std = PREPROCESS["mean"], PREPROCESS["std"]
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)
