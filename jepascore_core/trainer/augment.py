"""Views of a batch of images, made on the device in one pass."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

BLURRED_SHARE = 0.5


def random_view(
    images: Tensor, size: int, generator: torch.Generator, *, areas: tuple[float, float], jitter: float
) -> Tensor:
    """Crop, mirror, jitter brightness, contrast and saturation, blur half of them.

    Args:
        images: (B, 3, H, W) in [0, 1], square.
        size: Side of the view in px.
        generator: CPU generator; decides everything.
        areas: Least and largest area of the crop, as shares of the image; at most 1.
        jitter: Largest change of brightness, contrast and saturation, as a share.

    Returns:
        (B, 3, size, size) in [0, 1].
    """
    draw = torch.rand(9, len(images), generator=generator).to(images.device)
    views = _crop(images, size, draw[:4], areas)
    views = _jitter(views, 1 + jitter * (2 * draw[4:7] - 1))
    strength = torch.where(draw[7] < BLURRED_SHARE, draw[8], 0.0)
    return torch.lerp(views, _blur(views), strength.view(-1, 1, 1, 1)).clamp(0, 1)


def _crop(images: Tensor, size: int, draw: Tensor, areas: tuple[float, float]) -> Tensor:
    """Random square crop and mirror; draw is (4, B) in [0, 1)."""
    side = (areas[0] + (areas[1] - areas[0]) * draw[0]).sqrt()
    mirror = torch.where(draw[1] < 0.5, -1.0, 1.0)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = side * mirror, side
    theta[:, 0, 2], theta[:, 1, 2] = (1 - side) * (2 * draw[2] - 1), (1 - side) * (2 * draw[3] - 1)
    grid = affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def _jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Scale brightness, contrast and saturation; factors are (3, B) around 1."""
    brightness, contrast, saturation = factors.view(3, -1, 1, 1, 1)
    images = images * brightness
    images = torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, contrast)
    return torch.lerp(images.mean(dim=1, keepdim=True), images, saturation)


def _blur(images: Tensor) -> Tensor:
    """Binomial blur over 5 px, standard deviation 1 px, edges mirrored."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    rows = pad(images.flatten(0, 1).unsqueeze(1), (2, 2, 2, 2), mode="reflect")  # (3B, 1, H + 4, W + 4)
    return conv2d(conv2d(rows, kernel.view(1, 1, 1, 5)), kernel.view(1, 1, 5, 1)).view_as(images)
