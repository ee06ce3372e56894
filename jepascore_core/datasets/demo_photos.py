"""The seven demo photographs: where test crops are cut, and where training crops are.

One third of every photograph is held out. ``demo:photos`` is cut from that third only; the trainer
sees the other two thirds only. The two rectangles share no pixel.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from jepascore_core.errors import DatasetError

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the source; right and bottom excluded, as in Pillow."""

MAX_OVERLAP = 1 / 3  # of the smaller crop, so that extremes are not five copies of one eye
MAX_CROPS = 48  # a class, so that the tallest held-out third does not dominate
TRAINING_SIDES = (48, 160)  # px in the source; the encoder sees 48

SIDES = ((96, 2), (72, 2), (56, None))
"""Crop side in px and how many of it; None: as many as the overlap rule leaves room for."""
SIDES_SMALL = ((72, 1), (48, None))
"""For the cat, whose photograph is half the size of the others."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph and its held-out third.

    Attributes:
        class_name: Name of the class that its crops make.
        source: Package and path of the file inside it.
        held_out: Which third is kept for ``demo:photos``: the one that shows more of the subject.
        sides: Sides of the test crops, see ``SIDES``.
    """

    class_name: str
    source: str
    held_out: Literal["right", "lower"]
    sides: tuple[tuple[int, int | None], ...] = SIDES


PHOTOS = (
    Photo("astronaut", "skimage/data/astronaut.png", "lower"),
    Photo("cat", "skimage/data/chelsea.png", "right", SIDES_SMALL),
    Photo("coffee", "skimage/data/coffee.png", "lower"),
    Photo("rocket", "skimage/data/rocket.jpg", "lower"),
    Photo(
        "motorcycle", "skimage/data/motorcycle_left.png", "right"
    ),  # the right-hand twin shows the same pixels: unused
    Photo("pagoda", "sklearn/datasets/images/china.jpg", "lower"),
    Photo("flower", "sklearn/datasets/images/flower.jpg", "lower"),
)


def source_path(source: str) -> Path:
    """Find a file of an installed package without importing the package.

    Args:
        source: Package and path inside it, such as ``skimage/data/coffee.png``.

    Returns:
        Path of the file.

    Raises:
        DatasetError: The package or the file is not installed.
    """
    package, _, inside = source.partition("/")
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / inside
        if path.is_file():
            return path
    name = {"skimage": "scikit-image", "sklearn": "scikit-learn"}.get(package, package)
    raise DatasetError(
        f"The demo needs {inside} of {name}; install it again with: pip install --force-reinstall {name}"
    )


@cache
def source_image(source: str) -> Image.Image:
    """Decode a source once; (W, H) RGB, shared by every reader, never changed.

    Args:
        source: Package and path inside it.

    Returns:
        The whole picture.

    Raises:
        DatasetError: The package or the file is not installed.
    """
    with Image.open(source_path(source)) as image:
        return image.convert("RGB")


def source_digest(sources: tuple[str, ...], recipe: str) -> str:
    """Digest of a recipe and of the bytes of the files that it reads.

    Args:
        sources: Package and path of each file.
        recipe: Name and version of what is made of them.

    Returns:
        Hex digest.

    Raises:
        DatasetError: A package or a file is not installed.
    """
    digest = hashlib.blake2b(recipe.encode(), digest_size=16)
    for source in sources:
        digest.update(source_path(source).read_bytes())
    return digest.hexdigest()


def held_out_box(photo: Photo) -> Box:
    """The third of a photograph from which test crops come."""
    width, height = source_image(photo.source).size
    if photo.held_out == "right":
        return (width - width // 3, 0, width, height)
    return (0, height - height // 3, width, height)


def training_box(photo: Photo) -> Box:
    """The two thirds of a photograph from which training crops come."""
    width, height = source_image(photo.source).size
    if photo.held_out == "right":
        return (0, 0, width - width // 3, height)
    return (0, 0, width, height - height // 3)


def held_out_boxes(photo: Photo) -> list[Box]:
    """Cut the held-out third into square crops, any two overlapping by at most a third of the smaller.

    The few large crops are spread with the golden ratio; the smallest side then fills the room that
    is left, column by column. Nothing is random.

    Args:
        photo: The photograph.

    Returns:
        At most ``MAX_CROPS`` boxes, largest first.
    """
    left, top, right, bottom = held_out_box(photo)
    squares: list[tuple[int, int, int]] = []
    for side, wanted in photo.sides:
        grid = np.meshgrid(
            np.arange(0, right - left - side + 1, 2), np.arange(0, bottom - top - side + 1, 2), indexing="ij"
        )
        x, y = grid[0].ravel(), grid[1].ravel()
        free = np.ones(x.size, dtype=bool)
        for square in squares:
            free &= _overlap(x, y, side, square) <= MAX_OVERLAP
        placed = 0
        while free.any() and (wanted is None or placed < wanted):
            rooms = np.flatnonzero(free)
            chosen = rooms[0] if wanted is None else rooms[int(rooms.size * ((placed + 1) * 0.618034 % 1))]
            square = (int(x[chosen]), int(y[chosen]), side)
            squares.append(square)
            free &= _overlap(x, y, side, square) <= MAX_OVERLAP
            placed += 1
    kept = np.unique(np.linspace(0, len(squares) - 1, min(len(squares), MAX_CROPS)).round().astype(int))
    return [_box(left, top, squares[i]) for i in kept]


def training_boxes(photo: Photo, count: int, seed: int = 0) -> list[Box]:
    """Draw square training crops, sides log-uniform in ``TRAINING_SIDES``, outside the held-out third.

    Args:
        photo: The photograph.
        count: Number of crops.
        seed: Seed of the draw.

    Returns:
        ``count`` boxes, in whole pixels.
    """
    left, top, right, bottom = training_box(photo)
    draw = np.random.Generator(np.random.PCG64([seed, *photo.class_name.encode()]))
    low, high = TRAINING_SIDES
    sides = np.exp(draw.uniform(np.log(low), np.log(high), count)).astype(int)
    xs = (draw.random(count) * (right - left - sides + 1)).astype(int)
    ys = (draw.random(count) * (bottom - top - sides + 1)).astype(int)
    return [_box(left, top, (int(x), int(y), int(side))) for x, y, side in zip(xs, ys, sides, strict=True)]


def training_crops(size: int, *, per_photo: int = 1000, seed: int = 0) -> np.ndarray:
    """Training crops of all seven photographs, resized.

    Args:
        size: Side in px to which every crop is resized (bicubic, antialiased).
        per_photo: Crops of each photograph.
        seed: Seed of the draw.

    Returns:
        (7 · per_photo, size, size, 3) uint8, photograph by photograph.

    Raises:
        DatasetError: A photograph is not installed.
    """
    crops = [
        # Cropped first: resize(box=...) would let pixels beyond the box, so the held-out third, bleed in.
        source_image(photo.source).crop(box).resize((size, size), Image.Resampling.BICUBIC)
        for photo in PHOTOS
        for box in training_boxes(photo, per_photo, seed)
    ]
    return np.stack([np.asarray(crop) for crop in crops])


def _overlap(x: np.ndarray, y: np.ndarray, side: int, square: tuple[int, int, int]) -> np.ndarray:
    """Shared area of squares at (x, y) with one square, as a share of the smaller of the two."""
    other_x, other_y, other_side = square
    width = np.clip(np.minimum(x + side, other_x + other_side) - np.maximum(x, other_x), 0, None)
    height = np.clip(np.minimum(y + side, other_y + other_side) - np.maximum(y, other_y), 0, None)
    return width * height / min(side, other_side) ** 2


def _box(left: int, top: int, square: tuple[int, int, int]) -> Box:
    """A square relative to a region as a box of the whole picture."""
    x, y, side = square
    return (left + x, top + y, left + x + side, top + y + side)
