"""What a selection can be packed as."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jepascore_core.errors import RunError
from jepascore_core.packs.layouts import FiftyOne, ImageFolder, Layout, Manifest


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of pack.

    Attributes:
        name: As ``pack`` and ``export --as`` take it.
        title: For people.
        file_name: What the file may be called.
        mime: Its media type.
        layout: How images lie in it; None for a table.
        thumbnails: Whether the images are thumbnails, which a run holds itself.
        folder: Whether it may be a folder instead of a zip.
    """

    name: str
    title: str
    file_name: str
    mime: str
    layout: Callable[[], Layout] | None = None
    thumbnails: bool = False
    folder: bool = False

    @property
    def suffix(self) -> str:
        """What the file's name ends in."""
        return Path(self.file_name).suffix


KINDS = {
    kind.name: kind
    for kind in (
        Kind("csv", "CSV table", "jepascore.csv", "text/csv"),
        Kind("parquet", "Parquet table", "jepascore.parquet", "application/vnd.apache.parquet"),
        Kind("txt", "List of keys", "jepascore-keys.txt", "text/plain"),
        Kind("zip-images", "Images", "jepascore-images.zip", "application/zip", Manifest),
        Kind("zip-thumbnails", "Thumbnails", "jepascore-thumbnails.zip", "application/zip", Manifest, thumbnails=True),
        Kind(
            "huggingface",
            "Hugging Face imagefolder",
            "jepascore-huggingface.zip",
            "application/zip",
            ImageFolder,
            folder=True,
        ),
        Kind("fiftyone", "FiftyOne dataset", "jepascore-fiftyone.zip", "application/zip", FiftyOne, folder=True),
    )
}


def kind_of(name: str | None, path: Path | None) -> Kind:
    """The kind of pack that a file is to be.

    Args:
        name: One of ``KINDS``; None decides by the file's ending: a table, or images where that is ``.zip``.
        path: The file; None is one that goes with the name.

    Returns:
        The kind.

    Raises:
        RunError: The name is unknown, or does not go with the ending.
    """
    suffix = path.suffix.lower() if path else ""
    if name is not None and name not in KINDS:
        raise RunError(f"There is no export {name!r}; there are {', '.join(KINDS)}.")
    kind = KINDS[name] if name else next((kind for kind in KINDS.values() if kind.suffix == suffix), None)
    if kind is None:
        endings = ", ".join(dict.fromkeys(kind.suffix for kind in KINDS.values()))
        raise RunError(f"Cannot export to {str(path)!r}: the name must end in one of {endings}.")
    if path and suffix != kind.suffix and not kind.folder:
        raise RunError(f"Cannot export {kind.name} to {str(path)!r}: the name must end in {kind.suffix}.")
    return kind
