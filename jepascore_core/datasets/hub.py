"""``hf:<owner>/<repository>[/<configuration>][:<split>]``: datasets of the Hugging Face hub, read by ``datasets``.

Only the split that was asked for is downloaded. A split that was prepared once opens without network.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.datasets.columns import class_names, image_column, label_column
from jepascore_core.datasets.images import open_image, read_file
from jepascore_core.datasets.keys import printable
from jepascore_core.datasets.rows import Rows, digest, encode_labels
from jepascore_core.errors import DatasetError, ImageError

PREFERRED_SPLITS = ("test", "validation", "val", "train")  # small and held out first
CONNECT_SECONDS = 5

# Names that the table on the hub does not declare.
CLASS_NAMES = {
    "matthieulel/galaxy10_decals": (
        "disturbed",
        "merging",
        "round smooth",
        "in-between round smooth",
        "cigar-shaped smooth",
        "barred spiral",
        "unbarred tight spiral",
        "unbarred loose spiral",
        "edge-on without bulge",
        "edge-on with bulge",
    )
}

_REPOSITORY = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(/(?P<config>\w[\w.+-]*))?(:(?P<split>\w[\w.-]*))?")


class HubDataset(Dataset):
    """One split of a hub dataset; the key is the split and the row, ``test/00012``."""

    def __init__(self, dataset_id: str, split: str, table: Any, names: tuple[str, ...] | None = None) -> None:
        """Wrap a split.

        Args:
            dataset_id: The id that opens this split again.
            split: Name of the split.
            table: ``datasets.Dataset`` with a column of images.
            names: Class names, for a table that does not declare them.

        Raises:
            DatasetError: There is no column of images, or no row.
        """
        import datasets

        self.id = dataset_id
        schema = table.features.arrow_schema
        self._image = image_column(schema, dataset_id)
        label = label_column(schema)
        if not len(table):
            raise DatasetError(f"{dataset_id} has no rows.")
        labels, self.class_names = encode_labels(
            table.select_columns([label]).with_format("arrow")[:][label]
            if label
            else pa.chunked_array([pa.nulls(len(table))]),
            (class_names(schema, label) if label else None) or names,
        )
        self.items = self._rows = Rows([(split, len(table))], labels, self.class_names)
        # Undecoded, so that a damaged image is one row's error.
        self._table = table.select_columns([self._image]).cast_column(self._image, datasets.Image(decode=False))
        size = table.info.splits[split].num_bytes if table.info.splits and split in table.info.splits else 0
        self.fingerprint = digest(dataset_id, len(table), size, labels.tobytes(), *self.class_names)

    def read(self, item: Item) -> Image.Image:
        """Read one image, upright RGB.

        Raises:
            ImageError: The row has no image, or it cannot be read.
        """
        return open_image(self._source(item))

    def file_of(self, item: Item) -> bytes:
        """Bytes of one row's image.

        Raises:
            ImageError: The row has no image, or its file cannot be read.
        """
        source = self._source(item)
        return source if isinstance(source, bytes) else read_file(source)

    def _source(self, item: Item) -> bytes | Path:
        """A row's image: its bytes, or where they lie."""
        cell = self._table[item.index][self._image] or {}
        if cell.get("bytes") is not None:
            return cell["bytes"]
        if cell.get("path") and _is_cached(cell["path"]):
            return Path(cell["path"])
        raise ImageError("The row holds no image bytes.")


def open_hub(dataset_id: str, *, download: bool = True) -> HubDataset:
    """Open a split of a hub dataset, downloading it when it is not here yet.

    Args:
        dataset_id: ``hf:owner/repository[/configuration][:split]``; without a split, the first there is of test,
            validation and train.
        download: False asks nothing of the network.

    Returns:
        The dataset, its id completed with the split.

    Raises:
        DatasetError: Unknown, gated, offline, damaged, or not of images.
    """
    found = _REPOSITORY.fullmatch(dataset_id.removeprefix("hf:"))
    if not found:
        raise DatasetError(f"{printable(dataset_id)} is not of the form hf:owner/repository[/configuration][:split].")
    repo, config, split = found["repo"], found["config"], found["split"]
    if download and _hub_answers():
        table, split = _download(repo, config, split)
    else:
        table, split = _open_cached(repo, config, split, download)
    return HubDataset(f"hf:{repo}{f'/{config}' if config else ''}:{split}", split, table, CLASS_NAMES.get(repo))


def _hub_answers() -> bool:
    """Whether the hub can be reached; one quick request, where ``datasets`` would retry for half a minute."""
    import datasets
    import huggingface_hub

    if datasets.config.HF_HUB_OFFLINE:
        return False
    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=CONNECT_SECONDS)
    except Exception:  # the HTTP library, and so the exception, changes with the version of huggingface_hub
        return False
    return True


def _download(repo: str, config: str | None, split: str | None) -> tuple[Any, str]:
    """Download and prepare one split; ``load_dataset(split=...)`` would download them all.

    Returns:
        ``datasets.Dataset`` and the name of the split.

    Raises:
        DatasetError: Unknown, gated, or lost on the way.
    """
    import datasets

    source = f"hf://datasets/{repo}"  # a bare name would prefer a local folder of that name
    try:
        if split is None:
            split = _choose_split(datasets.load_dataset_builder(source, config).config.data_files)
        builder = datasets.load_dataset_builder(source, config, cache_dir=str(_cache(split)))
        files = builder.config.data_files
        if split not in files:
            raise DatasetError(f"{repo} has no split {split!r}; it has {', '.join(map(str, files))}.")
        builder.config.data_files = datasets.data_files.DataFilesDict({split: files[split]})
        builder.download_and_prepare(verification_mode="no_checks")  # the card's totals are those of all splits
        return builder.as_dataset(split=split), split
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(_explain(error, repo)) from error


def _choose_split(splits: Iterable[Any]) -> str:
    """The split to read when none was named."""
    names = list(map(str, splits))
    return next((name for name in PREFERRED_SPLITS if name in names), names[0])


def _open_cached(repo: str, config: str | None, split: str | None, download: bool) -> tuple[Any, str]:
    """Open a split that was prepared before, by us or by the user's own ``load_dataset``."""
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    for name in [split] if split else PREFERRED_SPLITS:
        for cache in (_cache(name), Path(datasets.config.HF_DATASETS_CACHE)):
            with contextlib.suppress(ValueError, OSError, KeyError):
                builder = Cache(
                    cache_dir=str(cache),
                    repo_id=repo,
                    dataset_name=repo.partition("/")[2],
                    config_name=config,
                    version="auto",
                    hash="auto",
                )
                return builder.as_dataset(split=name), name
    part = f" ({split})" if split else ""
    if not download:
        raise DatasetError(f"{repo}{part} is not on this machine; scoring images of it downloads it.")
    switch = ", because HF_HUB_OFFLINE is set," if datasets.config.HF_HUB_OFFLINE else ""
    raise DatasetError(
        f"The Hugging Face hub cannot be reached{switch} and {repo}{part} is not on this machine yet; go online once,"
        " or copy its files here and name them with folder: or parquet:."
    )


def _cache(split: str) -> Path:
    """Where a split is prepared: apart from other splits, which Hugging Face would take for the whole."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "jepascore" / split


def _explain(error: Exception, repo: str) -> str:
    """One sentence for what went wrong on the hub."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    causes = list(_causes(error))
    page = f"https://huggingface.co/datasets/{repo}"
    # `datasets` sometimes passes on the sentence alone, without its cause.
    if any(isinstance(cause, GatedRepoError) or "is a gated dataset" in str(cause) for cause in causes):
        return f"{repo} is gated: accept its terms at {page}, log in with `hf auth login`, and try again."
    if any(isinstance(cause, DatasetNotFoundError | RepositoryNotFoundError) for cause in causes):
        return (
            f"The Hugging Face hub has no public dataset {repo}; check the name, or log in with `hf auth login` if it"
            " is private."
        )
    if any(isinstance(cause, ConnectionError) for cause in causes):
        return f"The connection to the Hugging Face hub was lost while reading {repo}; try again."
    reason = printable((str(causes[-1]) or type(causes[-1]).__name__).splitlines()[0])[:200].rstrip(". ")
    return f"Hugging Face datasets cannot open {repo}: {reason}."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_cached(path: str) -> bool:
    """Whether a file belongs to Hugging Face's caches; a table may name any file of this machine."""
    import datasets
    import huggingface_hub

    caches = (datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE)
    return any(Path(path).resolve().is_relative_to(Path(cache).resolve()) for cache in caches)
