"""The embedded demo datasets: real images out of scikit-image's and scikit-learn's wheels, no network.

They mirror the paper's ImageNet, MNIST and Galaxy at the size of a demo, plus a hard case:

- ``demo:photos``: crops of seven photographs, from the third that the demo encoder never saw;
- ``demo:digits``: scikit-learn's handwritten digits;
- ``demo:galaxies``: sources cut out of the Hubble deep field;
- ``demo:histology``: stained tissue and an eye's retina, close to photographs in colour and texture.
"""

import gzip
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.datasets.demo_photos import (
    PHOTOS,
    Box,
    held_out_boxes,
    source_digest,
    source_image,
    source_path,
)
from jepascore_core.errors import DatasetError, ImageError

RECIPE = "1"  # change it when any crop changes: it is part of every fingerprint
DISPLAY_PX = 160  # smaller crops are enlarged to this side, the size of a thumbnail

DIGITS = "sklearn/datasets/data/digits.csv.gz"
DIGITS_PER_CLASS = 30
HUBBLE = "skimage/data/hubble_deep_field.jpg"
GALAXIES = 400
GALAXY_PX = 40
GALAXY_CLASSES = ("faint galaxies", "medium galaxies", "bright galaxies")  # terciles of flux
TISSUE, TISSUE_PX, TISSUE_STEP = "skimage/data/ihc.png", 64, 44
RETINA, RETINA_PX, RETINA_STEP = "skimage/data/retina.jpg", 128, 86

Entry = tuple[str, str, str, Box]
"""Key, class name, source and box of one crop; the rows of the digits have their own reader."""


class DemoDataset(Dataset):
    """Images made from installed files; every entry is known before anything is cut.

    Args:
        name: Name after ``demo:``.
        class_names: Name of each class, by label.
        entries: Key and class name of each image, in order.
        sources: Files read, for the fingerprint.
        cut: Makes the image of one index.
    """

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        entries: list[tuple[str, str]],
        sources: tuple[str, ...],
        cut: Callable[[int], Image.Image],
    ) -> None:
        self.id = f"demo:{name}"
        self.class_names = class_names
        label = {class_name: i for i, class_name in enumerate(class_names)}
        self.items = [Item(i, key, label[owner], owner) for i, (key, owner) in enumerate(entries)]
        self.fingerprint = source_digest(sources, f"{self.id} recipe {RECIPE}")
        self._cut = cut

    def read(self, item: Item) -> Image.Image:
        """Cut one image out of its source; safe to call from several threads.

        Args:
            item: One of ``items``.

        Returns:
            Square RGB image, ``DISPLAY_PX`` wide or more.

        Raises:
            ImageError: The item is not of this dataset.
        """
        if not 0 <= item.index < len(self.items) or self.items[item.index].key != item.key:
            raise ImageError(f"{self.id} has no image {item.key!r}.")
        image = self._cut(item.index)
        if image.width < DISPLAY_PX:
            return image.resize((DISPLAY_PX, DISPLAY_PX), Image.Resampling.BICUBIC)
        return image


def _photos() -> DemoDataset:
    """Crops of the held-out third of each photograph; class = photograph."""
    entries = [
        (f"{photo.class_name}/x{box[0]:03d}-y{box[1]:03d}-{box[2] - box[0]}px", photo.class_name, photo.source, box)
        for photo in PHOTOS
        for box in held_out_boxes(photo)
    ]
    return _from_crops("photos", tuple(photo.class_name for photo in PHOTOS), entries)


def _galaxies() -> DemoDataset:
    """Brightest sources of the Hubble deep field, 40 px around each; three terciles of flux as classes."""
    centres, flux = _hubble_sources()
    terciles = np.searchsorted(np.quantile(flux, [1 / 3, 2 / 3]), flux)
    half = GALAXY_PX // 2
    entries = []
    for (y, x), tercile in zip(centres.tolist(), terciles.tolist(), strict=True):
        owner = GALAXY_CLASSES[tercile]
        box = (x - half, y - half, x + half, y + half)
        entries.append((f"{owner.split()[0]}/x{x:04d}-y{y:04d}", owner, HUBBLE, box))
    return _from_crops("galaxies", GALAXY_CLASSES, entries)


def _hubble_sources() -> tuple[np.ndarray, np.ndarray]:
    """Find sources in the Hubble deep field.

    Returns:
        Centres (N, 2) as (row, column) in px, brightest peak first, and their flux (N,): light above
        the sky in the 20 px around the centre, in units of one fully white pixel.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.feature import peak_local_max

    grey = np.asarray(source_image(HUBBLE).convert("L"), dtype=np.float64) / 255
    smooth = gaussian_filter(grey, sigma=2)
    centres = peak_local_max(
        smooth, min_distance=10, threshold_abs=0.12, exclude_border=GALAXY_PX // 2, num_peaks=GALAXIES
    )
    above_sky = grey - np.median(grey)
    flux = np.array([above_sky[y - 10 : y + 10, x - 10 : x + 10].sum() for y, x in centres])
    return centres, flux


def _histology() -> DemoDataset:
    """Crops of stained tissue and of a retina, on grids whose neighbours overlap by less than a third."""
    tissue_width, tissue_height = source_image(TISSUE).size
    tissue = _grid(tissue_width, tissue_height, TISSUE_PX, TISSUE_STEP)
    retina_width, retina_height = source_image(RETINA).size
    centre = (retina_width / 2, retina_height / 2)
    within = 0.46 * retina_width  # the eye's disc, without its dark rim
    retina = [
        box
        for box in _grid(retina_width, retina_height, RETINA_PX, RETINA_STEP)
        if all(np.hypot(x - centre[0], y - centre[1]) < within for x in box[::2] for y in box[1::2])
    ]
    entries = [
        (f"{owner}/x{box[0]:04d}-y{box[1]:04d}", owner, source, box)
        for owner, source, boxes in (("tissue", TISSUE, tissue), ("retina", RETINA, retina))
        for box in boxes
    ]
    return _from_crops("histology", ("tissue", "retina"), entries)


def _grid(width: int, height: int, side: int, step: int) -> list[Box]:
    """Square boxes of one side on a regular grid, in px, row by row."""
    return [
        (x, y, x + side, y + side) for y in range(0, height - side + 1, step) for x in range(0, width - side + 1, step)
    ]


def _from_crops(name: str, class_names: tuple[str, ...], entries: list[Entry]) -> DemoDataset:
    """A dataset whose every image is a box of a source."""

    def cut(index: int) -> Image.Image:
        *_, source, box = entries[index]
        return source_image(source).crop(box)

    sources = tuple(dict.fromkeys(source for _, _, source, _ in entries))
    return DemoDataset(name, class_names, [entry[:2] for entry in entries], sources, cut)


def _digits() -> DemoDataset:
    """The first thirty of each handwritten digit, 8 px, enlarged and given MNIST's black margin."""
    with gzip.open(source_path(DIGITS), "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.int64)  # (1797, 65): 64 pixels of 0..16, then the digit
    rows = np.sort(np.concatenate([np.flatnonzero(table[:, -1] == digit)[:DIGITS_PER_CLASS] for digit in range(10)]))
    pixels = (table[rows, :-1] * 255 / 16).round().astype(np.uint8).reshape(-1, 8, 8)

    def cut(index: int) -> Image.Image:
        margin = DISPLAY_PX // 8
        side = DISPLAY_PX - 2 * margin
        canvas = Image.new("L", (DISPLAY_PX, DISPLAY_PX))
        canvas.paste(Image.fromarray(pixels[index]).resize((side, side), Image.Resampling.BICUBIC), (margin, margin))
        return canvas.convert("RGB")

    class_names = tuple(f"digit {digit}" for digit in range(10))
    entries = [(f"{table[row, -1]}/{row:04d}", class_names[table[row, -1]]) for row in rows]
    return DemoDataset("digits", class_names, entries, (DIGITS,), cut)


_RECIPES = {"photos": _photos, "digits": _digits, "galaxies": _galaxies, "histology": _histology}
DEMO_NAMES = tuple(_RECIPES)


@cache
def demo_dataset(name: str) -> Dataset:
    """Make one of the embedded datasets; the list in under a second, each image when it is read.

    Args:
        name: One of ``DEMO_NAMES``.

    Returns:
        The dataset, with the id ``demo:<name>``; the same object when asked again.

    Raises:
        DatasetError: The name is unknown, or a file of scikit-image or scikit-learn is missing.

    Example:
        >>> photos = demo_dataset("photos")
        >>> photos.class_names[1], photos.read(photos.items[0]).size
        ('cat', (160, 160))
    """
    if name not in _RECIPES:
        raise DatasetError(f"No demo dataset named {name!r}; there are {', '.join(DEMO_NAMES)}.")
    return _RECIPES[name]()
