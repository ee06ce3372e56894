"""The source of an image that is packed: its own file in the dataset, or the thumbnail that the run holds."""

import functools
import io
from collections.abc import Callable
from typing import Any

from jepascore_core.datasets import load_dataset
from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.datasets.folder import FolderDataset
from jepascore_core.errors import DatasetError, ImageError
from jepascore_core.files import storable
from jepascore_core.store import Run

Row = dict[str, Any]
Source = Callable[[Run, Row], tuple[bytes, str]]  # bytes of an image file, and the ending that its name should have

load_here = functools.partial(load_dataset, download=False)


def suffix_of(data: bytes) -> str | None:
    """What the name of an image file should end in, of the formats that browsers and libraries all show.

    Args:
        data: The file.

    Returns:
        ``.jpg``, ``.png``, ``.gif`` or ``.webp``; None for any other content.

    Example:
        >>> suffix_of(b"GIF89a..."), suffix_of(b"<html>")
        ('.gif', None)
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    signatures = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png", b"GIF87a": ".gif", b"GIF89a": ".gif"}
    return next((suffix for signature, suffix in signatures.items() if data.startswith(signature)), None)


def thumbnail(run: Run, row: Row) -> tuple[bytes, str]:
    """The thumbnail that a run holds of an image.

    Args:
        run: The run.
        row: With ``thumbnail`` and ``error``.

    Returns:
        JPEG, and ``.jpg``.

    Raises:
        ImageError: It holds none; the message says why.
    """
    data = row["thumbnail"]
    if data is None or suffix_of(data) != ".jpg":
        raise ImageError(row["error"] or "The run holds no thumbnail of this image.")
    return data, ".jpg"


def originals(open_dataset: Callable[[str], Dataset] = load_here) -> Source:
    """Make the function that reads an image from its run's dataset; each dataset is opened once.

    A JPEG, PNG, GIF or WebP file is copied byte for byte. Anything else becomes a PNG, upright RGB, as the encoder saw
    it.

    Args:
        open_dataset: Opens a dataset by id; by default only one that is on this machine.

    Returns:
        The function. It raises DatasetError where the dataset is out of reach or has changed, and ImageError where
        one image is.
    """
    opened = functools.cache(_Opened)

    def read(run: Run, row: Row) -> tuple[bytes, str]:
        if row["error"] and row["width"] is None:
            raise ImageError(row["error"])
        return opened(open_dataset, _dataset_id(run)).file(run, row)

    return read


class _Opened:
    """A dataset, or why it is out of reach.

    Args:
        open_dataset: Opens it.
        dataset_id: Its id.
    """

    def __init__(self, open_dataset: Callable[[str], Dataset], dataset_id: str) -> None:
        self._dataset: Dataset | None = None
        self._problem = ""
        try:
            self._dataset = open_dataset(dataset_id)
        except DatasetError as error:
            self._problem = str(error)

    def file(self, run: Run, row: Row) -> tuple[bytes, str]:
        """Bytes and ending of an image's file."""
        if self._dataset is None:
            raise DatasetError(self._problem)
        item = self._find(self._dataset, run, row)
        data = self._dataset.file_of(item)
        suffix = suffix_of(data) if data else None
        if data and suffix:
            return data, suffix
        out = io.BytesIO()
        self._dataset.read(item).save(out, "PNG")
        return out.getvalue(), ".png"

    def _find(self, dataset: Dataset, run: Run, row: Row) -> Item:
        """The item of a row. A path names its file still where a dataset has grown; a row number may not."""
        stated = run.meta["dataset"].get("fingerprint")
        by_path = isinstance(dataset, FolderDataset) or stated == ""  # what was imported knows keys only
        if by_path or stated in (None, dataset.fingerprint):
            index, key = row["index"], row["key"]
            if stated != "" and 0 <= index < len(dataset.items) and storable(dataset.items[index].key) == key:
                return dataset.items[index]
            if by_path and key in self._places:
                return dataset.items[self._places[key]]
            raise ImageError("The dataset no longer holds this image.")
        raise DatasetError("The dataset has changed since this run.")

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        """Index of each key."""
        return {storable(item.key): item.index for item in self._dataset.items} if self._dataset else {}


def _dataset_id(run: Run) -> str:
    """Id of a run's dataset, with an absolute path where the run says it."""
    request = run.meta.get("request")
    asked = request.get("dataset_id") if isinstance(request, dict) else None
    if isinstance(asked, str):
        return asked
    if not run.meta:
        raise DatasetError(f"{run.problem or 'run.json is empty.'} The run cannot say where its images are.")
    return str(run.meta["dataset"]["id"])
