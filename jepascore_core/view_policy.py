"""Augmented views of one image for eq. (4): mild, and decided by seed, key and number alone."""

import hashlib
import math
import random

from PIL import Image, ImageEnhance, ImageFilter

MIN_AREA = 0.6
ASPECT = 4 / 3
JITTER = 0.15
BLURRED_SHARE = 0.3
MAX_BLUR = 0.01  # radius of the blur, as a share of the shorter side

POLICY = "mild-1"  # named in run.json; give a changed policy a new name
POLICY_WORDS = (
    f"crop to {MIN_AREA:.0%} of the area or more, mirror half of them, brightness, contrast and saturation "
    f"within ±{JITTER:.0%}, blur {BLURRED_SHARE:.0%} slightly; view 0 is the plain image"
).replace("%", "\u2009%")


def draw_view(image: Image.Image, *, seed: int, key: str, view: int) -> Image.Image:
    """Draw one view; view 0 is the image itself.

    Others are a crop of 60 to 100 % of the area, mirrored half of the time, with brightness, contrast
    and saturation within ±15 %, and three in ten slightly blurred. A crop is not resized: the encoder's
    transform does that.

    Args:
        image: RGB.
        seed: Seed of the run.
        key: The image's key.
        view: Number of the view, ≥ 0.

    Returns:
        RGB, at most as large as the image.
    """
    if view == 0:
        return image
    text = f"{seed}\0{view}\0{key}".encode(errors="surrogatepass")
    dice = random.Random(hashlib.blake2b(text, digest_size=16).digest())
    image = _crop(image, dice)
    if dice.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(dice.uniform(1 - JITTER, 1 + JITTER))
    if dice.random() < BLURRED_SHARE:
        image = image.filter(ImageFilter.GaussianBlur(dice.uniform(0, MAX_BLUR) * min(image.size)))
    return image


def _crop(image: Image.Image, dice: random.Random) -> Image.Image:
    """A box of random area, aspect and place, as large as the image allows."""
    area = dice.uniform(MIN_AREA, 1.0) * image.width * image.height
    aspect = math.exp(dice.uniform(-math.log(ASPECT), math.log(ASPECT))) * image.width / image.height
    width = max(1, min(image.width, round(math.sqrt(area * aspect))))
    height = max(1, min(image.height, round(area / width)))
    left, top = dice.randint(0, image.width - width), dice.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))
