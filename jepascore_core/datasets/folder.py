"""``folder:<path>``: image files, one sub-folder a class, or all in one flat folder."""

import os
from array import array
from copy import copy
from pathlib import Path

from PIL import Image

from jepascore_core.allowed import DATA_ROOTS, check_path, may_reach
from jepascore_core.datasets import idx
from jepascore_core.datasets.base import UNLABELLED, Dataset, Item
from jepascore_core.datasets.images import image_suffixes, open_image, read_file
from jepascore_core.datasets.keys import key_to_name, name_to_key, printable
from jepascore_core.datasets.rows import digest
from jepascore_core.datasets.walk import scan, walk
from jepascore_core.datasets.watch import Watch, gone
from jepascore_core.errors import DatasetError, DatasetGone, ImageError

_SOME = 16  # files that are looked for before a folder is taken for gone


class FolderDataset(Dataset):
    """Image files under a folder; the key is the path from there.

    The class is the first sub-folder; files directly in the folder have none. Names that begin with a
    dot, empty sub-folders and files that are not images are left out.

    Attributes:
        skipped: Number of files left out.
    """

    def __init__(self, dataset_id: str, path: Path) -> None:
        """List the files of a folder.

        Args:
            dataset_id: The id as it was asked for.
            path: The folder.

        Raises:
            DatasetError: The folder is missing, closed to us, or holds no image.
        """
        self.id = dataset_id
        self._root = str(path.absolute())
        suffixes = image_suffixes()
        found = {}
        self.skipped = 0
        for name, size in walk(self._root):
            base, _, suffix = name.rpartition("/")[2].rpartition(".")
            if base and base[0] != "." and size is not None and f".{suffix.lower()}" in suffixes:
                found[name_to_key(name)] = size
            else:
                self.skipped += 1
        if not found:
            raise DatasetError(_nothing_here(self._root, self.skipped))
        keys = sorted(found)
        classes = [key.partition("/")[0] if "/" in key else "" for key in keys]
        self.class_names = tuple(sorted(set(classes) - {""}))
        label_of = {name: label for label, name in enumerate(self.class_names)}
        labels = [label_of.get(name, UNLABELLED) for name in classes]
        names = (*self.class_names, "")  # the name of UNLABELLED; one text for each class, not for each image
        self.items = [
            Item(index, key, label, names[label]) for index, (key, label) in enumerate(zip(keys, labels, strict=True))
        ]
        self.fingerprint = digest("\n".join(f"{key}\t{found[key]}" for key in keys))
        self._sizes = array("q", (found[key] for key in keys))
        self._some = keys[:: max(1, len(keys) // _SOME)]
        self._watch = Watch()

    def read(self, item: Item) -> Image.Image:
        """Read one file, upright RGB.

        Raises:
            ImageError: The file is gone, has changed or cannot be read.
            DatasetGone: So are all others.
        """
        path = self._path(item)
        self._compare(item, path)
        return open_image(path)

    def watch(self, since: float) -> None:
        """Count files that are read and were written since a time, which have as many bytes as listed."""
        self._watch.since = since

    @property
    def rewritten(self) -> int:
        """How many there were."""
        return len(self._watch.seen)

    def file_of(self, item: Item) -> bytes:
        """Bytes of one file.

        Raises:
            ImageError: The file is gone or cannot be read.
        """
        return read_file(self._path(item))

    def _compare(self, item: Item, path: Path) -> None:
        """Make sure that a file is the one that was listed, as far as its size and time tell.

        Raises:
            ImageError: It has another size.
            DatasetGone: It is gone, and so are others.
        """
        try:
            status = path.stat()
        except OSError:
            if not any(os.path.exists(self._name(key)) for key in self._some):  # noqa: PTH110 - False without permission
                raise DatasetGone(gone(f"The images in {printable(self._root)}", "they are")) from None
            return  # whoever opens it says why it cannot be read
        listed = self._sizes[item.index]
        if status.st_size != listed:
            raise ImageError(
                f"The file has changed since the images were listed: {listed:,} bytes then, {status.st_size:,} now."
            )
        self._watch.note(item.index, status.st_mtime)

    def _name(self, key: str) -> str:
        return f"{self._root}/{key_to_name(key)}"

    def for_reading(self) -> "FolderDataset":
        """The same folder without its list of files."""
        reader = copy(self)
        reader.items = []
        return reader

    def _path(self, item: Item) -> Path:
        path = Path(self._name(item.key))
        check_path(path, ImageError)  # it may have become a link since it was listed
        return path


def open_folder(dataset_id: str, path: Path) -> Dataset:
    """Open a folder of image files, or of MNIST idx files.

    Args:
        dataset_id: The id as it was asked for.
        path: The folder.

    Returns:
        A ``FolderDataset``, or an ``IdxDataset`` where the folder holds ``*-images-idx3-ubyte[.gz]``.

    Raises:
        DatasetError: The folder is missing, closed to us, empty or damaged.
    """
    images = [path / entry.name for entry in scan(str(path.absolute())) if idx.is_image_file(entry.name)]
    return idx.IdxDataset(dataset_id, images) if images else FolderDataset(dataset_id, path)


def _nothing_here(root: str, skipped: int) -> str:
    """Say what an imageless folder holds instead."""
    if any(entry.name.endswith(".parquet") for entry in scan(root)):
        return f"The folder {printable(root)} holds Parquet files; name it parquet:{printable(root)}."
    if any(entry.is_symlink() and not may_reach(entry.path) for entry in scan(root)):
        return f"The folder {printable(root)} holds no images beside links to outside the folders of {DATA_ROOTS}."
    others = f", only {skipped} other files" if skipped else ""
    return f"The folder {printable(root)} holds no images{others}."
