"""``torchvision:<Name>[:split]``: torchvision's image classification sets, downloaded by torchvision once."""

import contextlib
import difflib
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pyarrow as pa
from filelock import FileLock
from PIL import Image

from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.datasets.images import to_rgb
from jepascore_core.datasets.keys import printable
from jepascore_core.datasets.rows import Rows, digest, encode_labels
from jepascore_core.errors import DatasetError, ImageError

STALL_SECONDS = 20  # torchvision itself would wait for a silent server for ever


@dataclass(frozen=True, slots=True)
class VisionSet:
    """How torchvision spells one dataset.

    Attributes:
        splits: Names of its splits; the first is the default.
        split_argument: ``train`` (a boolean), ``split`` (a name), or empty where there is one split.
        labels: Attribute that holds the labels, or (file, label) pairs.
    """

    splits: tuple[str, ...]
    split_argument: str
    labels: str


VISION_SETS = {
    "MNIST": VisionSet(("test", "train"), "train", "targets"),
    "FashionMNIST": VisionSet(("test", "train"), "train", "targets"),
    "KMNIST": VisionSet(("test", "train"), "train", "targets"),
    "USPS": VisionSet(("test", "train"), "train", "targets"),
    "CIFAR10": VisionSet(("test", "train"), "train", "targets"),
    "CIFAR100": VisionSet(("test", "train"), "train", "targets"),
    "SVHN": VisionSet(("test", "train", "extra"), "split", "labels"),
    "STL10": VisionSet(("test", "train", "unlabeled"), "split", "labels"),
    "DTD": VisionSet(("test", "train", "val"), "split", "_labels"),
    "Food101": VisionSet(("test", "train"), "split", "_labels"),
    "Flowers102": VisionSet(("test", "train", "val"), "split", "_labels"),
    "GTSRB": VisionSet(("test", "train"), "split", "_samples"),
    "OxfordIIITPet": VisionSet(("test", "trainval"), "split", "_labels"),
    "FGVCAircraft": VisionSet(("test", "train", "val", "trainval"), "split", "_labels"),
    "Country211": VisionSet(("test", "train", "valid"), "split", "targets"),
    "RenderedSST2": VisionSet(("test", "train", "val"), "split", "_samples"),
    "Imagenette": VisionSet(("val", "train"), "split", "_samples"),
    "EuroSAT": VisionSet(("all",), "", "targets"),
}


class VisionDataset(Dataset):
    """One split of a torchvision dataset; the key is the split and the row, ``test/00012``."""

    def __init__(self, dataset_id: str, split: str, data: Any, labels: np.ndarray) -> None:
        """Wrap a torchvision dataset.

        Args:
            dataset_id: The id that opens this split again.
            split: Name of the split.
            data: Map-style dataset of (PIL image, label).
            labels: (N,) integers.
        """
        self.id = dataset_id
        names = getattr(data, "classes", None) or None
        # Some sets name a class by a tuple of synonyms.
        names = [name if isinstance(name, str) else ", ".join(name) for name in names] if names else None
        numbers, self.class_names = encode_labels(pa.chunked_array([labels]), names)
        self.items = Rows([(split, len(numbers))], numbers, self.class_names)
        self.fingerprint = digest(dataset_id, numbers.tobytes(), *self.class_names)
        self._data = data

    def read(self, item: Item) -> Image.Image:
        """Read one image, upright RGB.

        Raises:
            ImageError: The image cannot be read.
        """
        try:
            image = self._data[item.index][0]
        except Exception as error:  # each torchvision dataset decodes in its own way
            raise ImageError(f"torchvision cannot read this image: {_first_line(error)}.") from error
        return to_rgb(image)


def open_vision(dataset_id: str, *, download: bool = True) -> VisionDataset:
    """Open a torchvision dataset, downloading it when it is not here yet.

    Args:
        dataset_id: ``torchvision:Name[:split]``; without a split, the first of ``VISION_SETS``.
        download: False asks nothing of the network.

    Returns:
        The dataset, its id completed with the split.

    Raises:
        DatasetError: Unknown name or split, no network, or a damaged download.
    """
    name, _, split = dataset_id.removeprefix("torchvision:").partition(":")
    if name not in VISION_SETS:
        close = ", ".join(_closest(name))
        raise DatasetError(f"There is no torchvision dataset {printable(name)!r} here; the closest are {close}.")
    known = VISION_SETS[name]
    split = split or known.splits[0]
    if split not in known.splits:
        raise DatasetError(f"torchvision:{name} has no split {printable(split)!r}; it has {', '.join(known.splits)}.")
    data = _open(name, _split_arguments(known, split), download)
    labels = getattr(data, known.labels)
    if known.labels == "_samples":
        labels = [label for _, label in labels]
    return VisionDataset(f"torchvision:{name}:{split}", split, data, np.asarray(labels, dtype=np.int64))


def data_home() -> Path:
    """Folder of downloaded datasets: ``$JEPASCORE_HOME/data``, else ``~/.jepascore/data``."""
    home = os.environ.get("JEPASCORE_HOME")
    return (Path(home) if home else Path.home() / ".jepascore") / "data"


def _split_arguments(known: VisionSet, split: str) -> dict[str, Any]:
    """How torchvision is told the split."""
    if known.split_argument == "train":
        return {"train": split == "train"}
    return {known.split_argument: split} if known.split_argument else {}


def _open(name: str, arguments: dict[str, Any], download: bool) -> Any:
    """Open a torchvision dataset; one process downloads at a time."""
    import torchvision

    root = data_home()
    try:
        root.mkdir(parents=True, exist_ok=True)
        # What torchvision prints must not mix with the output of a command.
        with FileLock(root / f".{name}.lock"), _stall_limit(), contextlib.redirect_stdout(sys.stderr):
            return getattr(torchvision.datasets, name)(root=str(root), download=download, **arguments)
    except Exception as error:  # URLError, RuntimeError, OSError, and whatever a half-written archive provokes
        if not download:
            raise DatasetError(f"{name} is not on this machine; scoring images of it downloads it.") from error
        where = "$JEPASCORE_HOME/data" if os.environ.get("JEPASCORE_HOME") else "~/.jepascore/data"
        offline = isinstance(error, URLError | TimeoutError) or "Error downloading" in str(error)
        problem = "could not download it" if offline else f"says: {_first_line(error)}"
        raise DatasetError(
            f"{name} is not on this machine, and torchvision {problem}; go online once, or put its files into {where}."
        ) from error


@contextlib.contextmanager
def _stall_limit() -> Iterator[None]:
    """Bound each silence of a download; urllib takes its limit from here only."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _closest(name: str) -> list[str]:
    """Three names like the one asked for, whatever its case."""
    lower = {known.lower(): known for known in VISION_SETS}
    return [lower[found] for found in difflib.get_close_matches(name.lower(), lower, 3, 0)]


def _first_line(error: Exception) -> str:
    """Beginning of a message that we did not write."""
    return printable((str(error) or type(error).__name__).splitlines()[0])[:160].rstrip(". ")
