"""Corruptions of an image in graded strength: RGB in, RGB of the same size out.

They follow ImageNet-C (Hendrycks and Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations*, ICLR 2019), whose images have 224 px a side. Here images have any size, and an encoder resizes them
afterwards; so every length is a share of the shorter side, and a corruption looks the same at any size:

========== ====================================== =============================== ==================================
kind       parameter                              severity 1 … 5                  source
========== ====================================== =============================== ==================================
blur       σ of a Gaussian, 1/224 of the side     1, 2, 3, 4, 6                   ImageNet-C, ``gaussian_blur``
noise      σ of Gaussian noise, 1 = white         0.08, 0.12, 0.18, 0.26, 0.38    ImageNet-C, ``gaussian_noise``
jpeg       quality of libjpeg                     25, 18, 15, 10, 7               ImageNet-C, ``jpeg_compression``
occlusion  area under a mid-grey box              5, 10, 20, 30, 45 %             ours, after Cutout (DeVries and
                                                                                  Taylor, 2017)
========== ====================================== =============================== ==================================

The grains of the noise and the pixels of the JPEG are 1/224 of the shorter side, or one pixel where that is more. What
a JPEG of that size loses is added to the image, so that it does not lose its resolution too. The box has the aspect of
the image. Noise and box are decided by the image's key alone: they are the same at every severity, but for their
strength, and a weaker box lies within a stronger one. An encoder whose input is smaller than 224 px sees less of all
but the box.
"""

import hashlib
import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SEVERITIES = (1, 2, 3, 4, 5)
REFERENCE_PX = 224  # side of ImageNet-C's images
RECIPE = "1"  # change it when any corruption changes: it is part of every fingerprint

BLUR_SIGMA = (1.0, 2.0, 3.0, 4.0, 6.0)  # px at the reference side
NOISE_SIGMA = (0.08, 0.12, 0.18, 0.26, 0.38)  # 1 = white
JPEG_QUALITY = (25, 18, 15, 10, 7)
OCCLUDED_AREA = (0.05, 0.10, 0.20, 0.30, 0.45)
GREY = 128


def blur(image: Image.Image, severity: int, key: str) -> Image.Image:
    """Blur an image with a Gaussian.

    Args:
        image: RGB.
        severity: 1 to 5.
        key: The image's key; decides nothing here.

    Returns:
        RGB, of the same size.
    """
    return image.filter(ImageFilter.GaussianBlur(BLUR_SIGMA[severity - 1] / REFERENCE_PX * min(image.size)))


def noise(image: Image.Image, severity: int, key: str) -> Image.Image:
    """Add Gaussian noise, each colour by itself.

    Args:
        image: RGB.
        severity: 1 to 5.
        key: The image's key; decides the noise.

    Returns:
        RGB, of the same size.
    """
    width, height = _coarse(image)
    grains = _dice("noise", key).standard_normal((height, width, 3), dtype=np.float32)
    return _plus(image, 255 * NOISE_SIGMA[severity - 1] * grains)


def jpeg(image: Image.Image, severity: int, key: str) -> Image.Image:
    """Compress an image as JPEG.

    Args:
        image: RGB.
        severity: 1 to 5.
        key: The image's key; decides nothing here.

    Returns:
        RGB, of the same size.
    """
    small = image.resize(_coarse(image), Image.Resampling.BOX)
    small.info.clear()  # Pillow would write metadata of the original
    file = io.BytesIO()
    small.save(file, "JPEG", quality=JPEG_QUALITY[severity - 1])
    lost = np.asarray(Image.open(file).convert("RGB"), np.float32) - np.asarray(small, np.float32)
    return _plus(image, lost)


def occlusion(image: Image.Image, severity: int, key: str) -> Image.Image:
    """Lay a mid-grey box over a part of an image.

    Args:
        image: RGB.
        severity: 1 to 5.
        key: The image's key; decides where the box lies.

    Returns:
        RGB, of the same size.
    """
    share = math.sqrt(OCCLUDED_AREA[severity - 1])
    x, y = _dice("occlusion", key).random(2)
    width, height = (max(1, round(share * side)) for side in image.size)
    left, top = int(x * (image.width - width)), int(y * (image.height - height))
    covered = image.copy()
    covered.paste((GREY, GREY, GREY), (left, top, left + width, top + height))
    return covered


CORRUPTIONS: dict[str, Callable[[Image.Image, int, str], Image.Image]] = {
    "blur": blur,
    "noise": noise,
    "jpeg": jpeg,
    "occlusion": occlusion,
}
"""Every kind by its name: image, severity and key in, image out."""

STRENGTHS = {
    "blur": tuple(f"σ {sigma:g}/{REFERENCE_PX} of the side" for sigma in BLUR_SIGMA),
    "noise": tuple(f"σ {sigma:g}" for sigma in NOISE_SIGMA),
    "jpeg": tuple(f"quality {quality}" for quality in JPEG_QUALITY),
    "occlusion": tuple(f"{share:.0%} of the area".replace("%", "\u2009%") for share in OCCLUDED_AREA),
}
"""What each severity of a kind is, in words."""


def _coarse(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image whose shorter side has the reference length at most."""
    share = min(1.0, REFERENCE_PX / min(image.size))
    return max(1, round(share * image.width)), max(1, round(share * image.height))


def _plus(image: Image.Image, change: NDArray[np.float32]) -> Image.Image:
    """An image with a change (h, w, 3) of its values, in units of 1/255, enlarged to its size."""
    rows = np.arange(image.height) * change.shape[0] // image.height
    columns = np.arange(image.width) * change.shape[1] // image.width
    values = np.asarray(image, np.float32) + change[rows[:, None], columns[None]]
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _dice(kind: str, key: str) -> np.random.Generator:
    """Random numbers that a kind and a key decide, the same in every process."""
    text = f"{RECIPE}\0{kind}\0{key}".encode(errors="surrogatepass")
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())))
