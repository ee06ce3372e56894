"""From a picture to an input tensor: the library's own evaluation transform, made safe for any image."""

from collections.abc import Callable

from PIL import Image
from torch import Tensor

LONGEST_TO_SHORTEST = 16


class Transform:
    """PIL image -> (C, H, W) float32; keeps no state, so that several threads may share it.

    Args:
        transform: What timm or open_clip made: resize, crop, to tensor, normalise.
        crops: Whether it keeps the aspect ratio and crops the centre, rather than squashing the image.
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor], *, crops: bool) -> None:
        self._transform = transform
        self._crops = crops

    def __call__(self, image: Image.Image) -> Tensor:
        """Transform one image of any mode and size.

        Args:
            image: Upright.

        Returns:
            (C, H, W) float32, normalised.
        """
        if image.mode != "RGB":
            image = image.convert("RGB")
        return self._transform(_trim(image) if self._crops else image)

    def __repr__(self) -> str:
        return f"Transform({self._transform!r})"


def _trim(image: Image.Image) -> Image.Image:
    """Cut the far ends off a very long image, which the centre crop drops anyway.

    Resizing its short side first would make a 1 × 50,000 px strip a picture of 224 × 11 million px.
    """
    width, height = image.size
    longest = LONGEST_TO_SHORTEST * min(image.size)
    if max(image.size) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, min(width, left + longest), min(height, top + longest)))
