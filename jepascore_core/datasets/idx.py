"""MNIST's idx files: ``t10k-images-idx3-ubyte[.gz]`` with ``t10k-labels-idx1-ubyte[.gz]`` beside it.

Format: http://yann.lecun.com/exdb/mnist, "THE IDX FILE FORMAT".
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from PIL import Image

from jepascore_core.allowed import check_path
from jepascore_core.datasets.base import UNLABELLED, Dataset, Item
from jepascore_core.datasets.keys import name_to_key, printable
from jepascore_core.datasets.rows import Rows, digest, encode_labels
from jepascore_core.errors import DatasetError

MAX_PIXEL_BYTES = 1 << 30  # held in memory: MNIST's training set has 47 MB, EMNIST's largest 550 MB

_IMAGE_FILE = re.compile(r"(?P<part>.+)-images[-.]idx3-ubyte(\.gz)?", re.DOTALL)


class IdxDataset(Dataset):
    """Grey images of one size, held in memory; the key is the file's part and the row, ``t10k/00012``."""

    def __init__(self, dataset_id: str, image_files: Sequence[Path]) -> None:
        """Read idx files.

        Args:
            dataset_id: The id as it was asked for.
            image_files: The ``*-images-idx3-ubyte[.gz]`` files; labels are looked for beside them.

        Raises:
            DatasetError: A file is damaged, cut short, too large, or does not fit its labels.
        """
        self.id = dataset_id
        parts, labels = [], []
        self._pixels = []
        for path in sorted(image_files, key=lambda path: path.name):
            pixels = _read_idx(path, dimensions=3)  # (N, H, W)
            self._pixels.append(pixels)
            parts.append((name_to_key(_IMAGE_FILE.fullmatch(path.name)["part"]), len(pixels)))  # type: ignore[index]
            labels.append(_read_labels(path, len(pixels)))
        numbers, self.class_names = encode_labels(pa.chunked_array([np.concatenate(labels)]))
        self.items = self._rows = Rows(parts, numbers, self.class_names)
        if not len(self.items):
            raise DatasetError(f"{printable(str(image_files[0]))} holds no images.")
        self.fingerprint = digest(*parts, *(pixels.shape for pixels in self._pixels), self._rows.label_bytes())

    def read(self, item: Item) -> Image.Image:
        """Read one image, RGB."""
        part, row = self._rows.locate(item.index)
        return Image.fromarray(self._pixels[part][row]).convert("RGB")


def is_image_file(name: str) -> bool:
    """Whether a file name is that of an idx file of images."""
    return _IMAGE_FILE.fullmatch(name) is not None


def _read_labels(image_file: Path, count: int) -> np.ndarray:
    """Labels (N,) int64 beside a file of images; ``UNLABELLED`` where there is no such file."""
    part = _IMAGE_FILE.fullmatch(image_file.name)["part"]  # type: ignore[index]
    for separator in "-.":
        for ending in ("", ".gz"):
            path = image_file.with_name(f"{part}-labels{separator}idx1-ubyte{ending}")
            if path.exists():
                labels = _read_idx(path, dimensions=1)
                if len(labels) != count:
                    raise DatasetError(
                        f"{printable(str(path))} has {len(labels)} labels for {count} images; they must be as many."
                    )
                return labels.astype(np.int64)
    return np.full(count, UNLABELLED, np.int64)


def _read_idx(path: Path, *, dimensions: int) -> np.ndarray:
    """Read one idx file of unsigned bytes.

    Args:
        path: The file, plain or ``.gz``.
        dimensions: 3 for images (N, H, W), 1 for labels (N,).

    Returns:
        The array, uint8.

    Raises:
        DatasetError: The file is damaged, cut short, closed to us, or a link to where we may not read.
    """
    shown = printable(str(path))
    check_path(path, DatasetError)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse_idx(file, dimensions)  # type: ignore[arg-type]
    except PermissionError as error:
        raise DatasetError(f"No permission to read {shown}.") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DatasetError(f"The idx file {shown} is damaged: {error}.") from error


def _parse_idx(file: BinaryIO, dimensions: int) -> np.ndarray:
    """Header: two zero bytes, type 8 (unsigned byte), number of dimensions; each size as a big-endian int32."""
    header = file.read(4 + 4 * dimensions)
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(f"its header is not that of {dimensions}-dimensional unsigned bytes")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    if size > MAX_PIXEL_BYTES:
        raise ValueError(f"its header names {size:,} bytes, more than {MAX_PIXEL_BYTES:,}")
    if dimensions == 3 and not size:
        raise ValueError(f"its header names images without pixels: {shape}")
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"it holds {len(data):,} of {size:,} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)
