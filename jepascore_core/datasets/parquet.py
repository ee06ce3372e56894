"""``parquet:<path>``: images inside a Parquet file, or a folder of them, as Hugging Face writes them.

Read in place with pyarrow rather than through Hugging Face ``datasets``, which would first copy every byte into
an Arrow cache: here listing reads the footers and the label column only, and reading touches one row group at a time.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jepascore_core.allowed import check_path
from jepascore_core.datasets.base import UNLABELLED, Dataset, Item
from jepascore_core.datasets.columns import class_names, image_column, is_image, label_column
from jepascore_core.datasets.images import open_image
from jepascore_core.datasets.keys import name_to_key, printable
from jepascore_core.datasets.row_groups import RowGroups
from jepascore_core.datasets.rows import Rows, digest, encode_labels
from jepascore_core.datasets.walk import walk
from jepascore_core.datasets.watch import Watch
from jepascore_core.errors import DatasetError, ImageError


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """One Parquet file and its footer, which is parsed only once.

    Attributes:
        path: Where it is.
        name: Its key: path from the folder, without the ending.
        size: Bytes.
        time_ns: When it was written, ns since 1970.
        footer: Parsed footer.
        schema: Its columns, with Hugging Face's metadata.
    """

    path: str
    name: str
    size: int
    time_ns: int
    footer: pq.FileMetaData
    schema: pa.Schema


class ParquetDataset(Dataset):
    """Rows of Parquet files; the key is the file and the row, ``train-00000/00012``."""

    def __init__(self, dataset_id: str, path: Path) -> None:
        """List the rows of a file, or of every ``.parquet`` file below a folder.

        Args:
            dataset_id: The id as it was asked for.
            path: The file or folder.

        Raises:
            DatasetError: Missing, damaged, without a column of images, or empty.
        """
        self.id = dataset_id
        files = [_open_file(file, name) for file, name in _find_files(path)]
        files = [file for file in files if file.footer.num_rows]
        if not files:
            raise DatasetError(f"{printable(str(path))} holds no rows.")
        column = image_column(files[0].schema, printable(files[0].path))
        for file in files:
            if len(set(file.schema.names)) < len(file.schema.names):
                raise DatasetError(f"{printable(file.path)} has two columns of one name.")
            if column not in file.schema.names or not is_image(file.schema.field(column).type):
                raise DatasetError(f"{printable(file.path)} has no images in its column {column!r}.")
        self._files, self._watch = files, Watch()
        self._groups = RowGroups(files, column)
        labels, self.class_names = _read_labels(files)
        self.items = self._rows = Rows([(file.name, file.footer.num_rows) for file in files], labels, self.class_names)
        self.fingerprint = digest(*((file.name, file.size) for file in files), labels.tobytes(), *self.class_names)

    def read(self, item: Item) -> Image.Image:
        """Read one image, upright RGB.

        Raises:
            ImageError: The row has no image, or its image or row group is damaged.
        """
        return open_image(self.file_of(item))

    def file_of(self, item: Item) -> bytes:
        """Bytes of one row's image.

        Raises:
            ImageError: The row has no image, or its row group is damaged.
            DatasetGone: The file is gone, or was written anew.
        """
        file, row = self._rows.locate(item.index)
        data = self._groups.read(file, row)
        self._watch.note(item.index, self._files[file].time_ns / 1e9)
        if data is None:
            raise ImageError("The row holds no image bytes.")
        return data

    def watch(self, since: float) -> None:
        """Count rows that are read from files which were written since a time and have as many bytes as listed."""
        self._watch.since = since

    @property
    def rewritten(self) -> int:
        """How many there were."""
        return len(self._watch.seen)


def _find_files(path: Path) -> list[tuple[str, str]]:
    """Path and key of each Parquet file, in order of their names."""
    if os.path.isfile(path):  # noqa: PTH113 - never raises, also for names that no file system takes
        return [(str(path), name_to_key(path.stem))]
    if not os.path.exists(path):  # noqa: PTH110
        raise DatasetError(f"There is no file or folder {printable(str(path))}.")
    root = str(path.absolute())
    names = sorted(name for name, size in walk(root) if size is not None and name.lower().endswith(".parquet"))
    if not names:
        raise DatasetError(f"The folder {printable(root)} holds no .parquet files.")
    return [(f"{root}/{name}", name_to_key(name[: -len(".parquet")])) for name in names]


def _open_file(path: str, name: str) -> ParquetFile:
    """Parse the footer of a file."""
    shown = printable(path)
    check_path(path, DatasetError)
    try:
        with pq.ParquetFile(path) as file:
            status = Path(path).stat()
            return ParquetFile(path, name, status.st_size, status.st_mtime_ns, file.metadata, file.schema_arrow)
    except PermissionError as error:
        raise DatasetError(f"No permission to read {shown}.") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{shown} is not a whole Parquet file; copy or download it again.") from error


def _read_labels(files: list[ParquetFile]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (N,) int32 over all files, and class names."""
    column = label_column(files[0].schema)
    if column is None:
        return np.full(sum(file.footer.num_rows for file in files), UNLABELLED, np.int32), ()
    names = class_names(files[0].schema, column)
    chunks: list[pa.Array] = []
    for file in files:
        if class_names(file.schema, column) != names:
            one, other = printable(files[0].name), printable(file.name)
            raise DatasetError(f"{one} and {other} do not have the same classes; open one file at a time.")
        try:
            with pq.ParquetFile(file.path, metadata=file.footer) as opened:
                values = opened.read(columns=[column]).column(column)
            chunks += values.cast(files[0].schema.field(column).type).chunks
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise DatasetError(f"The column {column!r} of {printable(file.path)} is missing or damaged.") from error
    values = pa.chunked_array(chunks, type=files[0].schema.field(column).type)
    return encode_labels(values, names)
