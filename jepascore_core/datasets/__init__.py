"""Datasets by id: folders, Parquet, the Hugging Face hub, torchvision, and the built-in demo sets."""

import difflib
from pathlib import Path

from jepascore_core.allowed import check_path, may_reach, read_only
from jepascore_core.corrupted_id import corrupted_id, innermost
from jepascore_core.datasets.base import UNLABELLED, Dataset, Item, sample
from jepascore_core.datasets.keys import printable
from jepascore_core.datasets.table import DATASETS, KINDS, SYNONYMS, DatasetEntry
from jepascore_core.errors import DatasetError
from jepascore_core.files import expanded

__all__ = [
    "DATASETS",
    "KINDS",
    "UNLABELLED",
    "Dataset",
    "DatasetEntry",
    "Item",
    "at_hand",
    "expand",
    "load_dataset",
    "sample",
]

_KIND_NAMES = tuple(kind.id.partition(":")[0] for kind in KINDS)
_AT_HAND = ("demo", "folder", "parquet")


def load_dataset(dataset_id: str, *, download: bool = True) -> Dataset:
    """Open a dataset.

    Args:
        dataset_id: ``folder:<path>``, ``parquet:<path>``, ``hf:<owner>/<repository>[/<configuration>][:<split>]``,
            ``torchvision:<Name>[:<split>]``, ``demo:<name>``, an alias of ``DATASETS``, the path of a folder or
            Parquet file that exists, or ``corrupted:<kind>:<severity>:`` and any of these.
        download: False opens only what is on this machine and asks nothing of the network, as in a read-only
            dashboard.

    Returns:
        The dataset; nothing but its list of images has been read.

    Raises:
        DatasetError: Unknown, missing, not allowed, gated, offline, empty or damaged; the message says what to do.
    """
    kind, _, rest = expand(dataset_id).partition(":")
    download = download and not read_only()
    if not rest:
        raise DatasetError(f"{kind}: needs a name or path after the colon.")
    if kind == "demo":
        from jepascore_core.datasets.demo import demo_dataset

        return demo_dataset(rest)
    if kind == "corrupted":
        from jepascore_core.datasets.corrupted import CorruptedDataset, parse_corruption

        corruption, severity, inner = parse_corruption(f"corrupted:{rest}")
        return CorruptedDataset(corruption, severity, load_dataset(inner, download=download))
    if kind == "hf":
        from jepascore_core.datasets.hub import open_hub

        return open_hub(f"hf:{rest}", download=download)
    if kind == "torchvision":
        from jepascore_core.datasets.vision import open_vision

        return open_vision(f"torchvision:{rest}", download=download)
    path = expanded(rest)
    check_path(path, DatasetError)
    if kind == "parquet":
        from jepascore_core.datasets.parquet import ParquetDataset

        return ParquetDataset(f"parquet:{rest}", path)
    from jepascore_core.datasets.folder import open_folder

    return open_folder(f"folder:{rest}", path)


def expand(dataset_id: str) -> str:
    """Turn an alias or a bare path into an id that names its kind.

    Args:
        dataset_id: Anything that ``load_dataset`` takes.

    Returns:
        The same dataset as ``kind:rest``.

    Raises:
        DatasetError: Neither a known id nor a path that exists and is allowed.
    """
    dataset_id = SYNONYMS.get(dataset_id, dataset_id)
    targets = {entry.id: entry.target for entry in DATASETS}
    if dataset_id in targets:
        return targets[dataset_id]
    if dataset_id.startswith("corrupted:"):
        from jepascore_core.datasets.corrupted import parse_corruption

        kind, severity, inner = parse_corruption(dataset_id)
        return corrupted_id(kind, severity, expand(inner))
    if dataset_id.partition(":")[0] in _KIND_NAMES and ":" in dataset_id:
        return dataset_id
    path = expanded(dataset_id)
    if path.name != dataset_id:  # nobody learns what lies outside by asking
        check_path(path, DatasetError)
    if dataset_id and may_reach(path) and _exists(path):
        return f"{'parquet' if _is_parquet(path) else 'folder'}:{dataset_id}"
    close = ", ".join(difflib.get_close_matches(dataset_id, [*targets, *SYNONYMS], 3, 0))
    raise DatasetError(f"There is no dataset or path {printable(dataset_id)!r}; the closest are {close}.")


def at_hand(dataset_id: str) -> bool:
    """Whether a dataset is listed without a download: built in, a folder or a Parquet file.

    Args:
        dataset_id: Anything that ``load_dataset`` takes.

    Returns:
        Whether it is of such a kind; not whether it exists.

    Raises:
        DatasetError: Neither a known id nor a path that exists.
    """
    return innermost(expand(dataset_id)).partition(":")[0] in _AT_HAND


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder, whatever the text."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _is_parquet(path: Path) -> bool:
    """A ``.parquet`` file, or a folder with one directly inside."""
    if path.is_file():
        return path.suffix.lower() == ".parquet"
    try:
        return any(entry.suffix.lower() == ".parquet" and entry.is_file() for entry in path.iterdir())
    except OSError:
        return False
