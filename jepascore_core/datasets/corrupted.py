"""``corrupted:<kind>:<severity>:<dataset id>``: another dataset, its images corrupted before the encoder sees them.

Keys, labels and order are those of the clean dataset, so that two runs pair by key.
"""

from copy import copy

from PIL import Image

from jepascore_core.corrupted_id import corrupted_id, take_apart
from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.datasets.corruptions import CORRUPTIONS, RECIPE, SEVERITIES
from jepascore_core.datasets.keys import printable
from jepascore_core.datasets.rows import digest
from jepascore_core.errors import DatasetError


class CorruptedDataset(Dataset):
    """A dataset whose images are corrupted as they are read.

    Args:
        kind: One of ``CORRUPTIONS``.
        severity: One of ``SEVERITIES``.
        clean: The dataset to corrupt.
    """

    def __init__(self, kind: str, severity: int, clean: Dataset) -> None:
        self.id = corrupted_id(kind, severity, clean.id)
        self.class_names = clean.class_names
        self.items = clean.items
        self.fingerprint = digest("corrupted", RECIPE, kind, severity, clean.fingerprint)
        self._clean, self._corrupt, self._severity = clean, CORRUPTIONS[kind], severity

    def read(self, item: Item) -> Image.Image:
        """Read one image and corrupt it; the same image is corrupted alike each time.

        Raises:
            ImageError: The clean image cannot be read.
        """
        return self._corrupt(self._clean.read(item), self._severity, item.key)

    def watch(self, since: float) -> None:
        """Count clean images that are written anew from now on."""
        self._clean.watch(since)

    @property
    def rewritten(self) -> int:
        """How many clean images were."""
        return self._clean.rewritten

    def for_reading(self) -> "CorruptedDataset":
        """The same dataset without a long list of items."""
        reader = copy(self)
        reader._clean = self._clean.for_reading()
        reader.items = reader._clean.items
        return reader


def parse_corruption(dataset_id: str) -> tuple[str, int, str]:
    """Take the id of a corrupted dataset apart, and make sure that there is such a corruption.

    Args:
        dataset_id: ``corrupted:<kind>:<severity>:<dataset id>``.

    Returns:
        Kind, severity and the id of the dataset to corrupt, which is not looked at.

    Raises:
        DatasetError: The id has another shape, or kind or severity is unknown.
    """
    parts = take_apart(dataset_id)
    if parts is None or not parts[2]:
        raise DatasetError(
            "A corrupted dataset is named corrupted:<kind>:<severity>:<dataset id>, "
            f"as in corrupted:blur:3:demo:photos, not {printable(dataset_id)}."
        )
    kind, severity, inner = parts
    if kind not in CORRUPTIONS:
        raise DatasetError(f"There is no corruption {printable(kind)!r}; there are {', '.join(CORRUPTIONS)}.")
    if severity not in map(str, SEVERITIES):
        words = "0 is the clean dataset itself" if severity == "0" else f"{printable(severity)!r} is none of these"
        raise DatasetError(f"The severity of a corruption is a whole number from 1 to 5; {words}.")
    return kind, int(severity), inner
