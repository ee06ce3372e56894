"""``folder:<path>``: image files, one sub-folder a class, or all in one flat folder."""

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
from jepascore_core.errors import DatasetError, ImageError


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

    def read(self, item: Item) -> Image.Image:
        """Read one file, upright RGB.

        Raises:
            ImageError: The file is gone or cannot be read.
        """
        return open_image(self._path(item))

    def file_of(self, item: Item) -> bytes:
        """Bytes of one file.

        Raises:
            ImageError: The file is gone or cannot be read.
        """
        return read_file(self._path(item))

    def for_reading(self) -> "FolderDataset":
        """The same folder without its list of files."""
        reader = copy(self)
        reader.items = []
        return reader

    def _path(self, item: Item) -> Path:
        path = Path(self._root, key_to_name(item.key))
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
