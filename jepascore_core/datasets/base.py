"""What every dataset is: a list of items, class names, a fingerprint, and a way to read one image."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from jepascore_core.errors import DatasetError

UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a dataset, before it is read.

    Attributes:
        index: Position in the whole dataset, 0-based; does not depend on the sample.
        key: Stable name within the dataset: a relative path with ``/``, or ``split/row``.
        label: Index into the dataset's class names, or ``UNLABELLED``.
        class_name: Name of the class, or the empty string when unlabelled.
    """

    index: int
    key: str
    label: int = UNLABELLED
    class_name: str = ""


class Dataset(ABC):
    """A finite list of images with stable keys; reading happens one image at a time.

    Attributes:
        id: The dataset id that makes this dataset again, such as ``folder:/data/birds``.
        class_names: Name of each class, by label; empty when there are no labels.
        items: Every image, in a stable order; ``items[i].index == i``.
        fingerprint: Hex digest that changes when the list of images or their bytes' size changes.
    """

    id: str
    class_names: tuple[str, ...]
    items: Sequence[Item]
    fingerprint: str

    @abstractmethod
    def read(self, item: Item) -> Image.Image:
        """Read one image, upright RGB; safe to call from several threads.

        Raises:
            ImageError: The image cannot be read; the message says why.
            DatasetGone: No image can be read any more.
        """

    def watch(self, since: float) -> None:  # noqa: B027 - most datasets cannot be written anew unnoticed
        """Count, from now on, the images that are read and were written anew since a time; see ``rewritten``.

        Args:
            since: Seconds since 1970.
        """

    @property
    def rewritten(self) -> int:
        """How many images that were read were written since then, with as many bytes as were listed.

        What was read of them may be another image than the one that was planned, and nothing else tells.
        """
        return 0

    def file_of(self, item: Item) -> bytes | None:
        """The image file as it is stored, not decoded; safe to call from several threads.

        Args:
            item: The image.

        Returns:
            Its bytes, or None where an image has no file of its own: drawn, or kept as an array.

        Raises:
            ImageError: The file is gone or cannot be read.
        """
        return None

    def for_reading(self) -> "Dataset":
        """The same dataset for another process, which is told the items to read: a long list of them may be missing.

        Returns:
            A dataset whose ``read`` gives the same images.
        """
        return self


def sample(
    items: Iterable[Item],
    *,
    per_class: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> list[Item]:
    """Draw a stratified sample that is reproducible and nested.

    Within a class, images are ordered by a seeded hash of their key, so that a larger sample with
    the same seed contains the smaller one. The result takes the classes in turn, so that any
    beginning of it is stratified too.

    Args:
        items: Every item of the dataset.
        per_class: Most images of each class; None takes all.
        limit: Most images in total; None takes all.
        seed: Seed of the order.
        classes: Class names to keep; None keeps all.

    Returns:
        The chosen items, classes in turn.

    Raises:
        DatasetError: A class name is unknown, a number is below 1, or nothing is left.
    """
    for name, value in (("per_class", per_class), ("limit", limit)):
        if value is not None and value < 1:
            raise DatasetError(f"{name} must be at least 1, not {value}.")
    by_class: dict[str, list[Item]] = {}
    for item in items:
        by_class.setdefault(item.class_name, []).append(item)
    if classes is not None:
        unknown = sorted(set(classes) - set(by_class))
        if unknown:
            known = ", ".join(sorted(by_class)[:8])
            raise DatasetError(f"No class named {unknown[0]!r}; there are {known}.")
        by_class = {name: rows for name, rows in by_class.items() if name in set(classes)}
    ranked = []
    for order, rows in enumerate(by_class.values()):
        rows = sorted(rows, key=lambda item: _draw(seed, item.key))[:per_class]
        ranked += [(rank, order, item) for rank, item in enumerate(rows)]
    chosen = [item for *_, item in sorted(ranked, key=lambda entry: entry[:2])][:limit]
    if not chosen:
        raise DatasetError("The dataset has no images.")
    return chosen


def _draw(seed: int, key: str) -> bytes:
    """Pseudo-random bytes that order a key, the same on every machine."""
    return hashlib.blake2b(f"{seed}\0{key}".encode(errors="surrogatepass"), digest_size=8).digest()
