"""Packs: images of one or several runs in one file that other programs open.

Tables (``csv``, ``parquet``, ``txt``) come from the store alone; the other kinds hold the images, out of their datasets
or as thumbnails out of the run, each with its score, label and tags.
"""

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from jepascore_core.allowed import read_only
from jepascore_core.datasets.base import Dataset
from jepascore_core.errors import RunError
from jepascore_core.files import expanded, storable, why
from jepascore_core.locks import Cancelled
from jepascore_core.packs.archive import Add, archive
from jepascore_core.packs.chosen import Missing, Picture, count, pictures, select
from jepascore_core.packs.kinds import KINDS, Kind, kind_of
from jepascore_core.packs.layouts import Layout
from jepascore_core.packs.originals import load_here, originals, thumbnail
from jepascore_core.store import ScoreRule
from jepascore_core.store.exports import Selection, export_selection
from jepascore_core.store.key_lines import key_line

__all__ = ["KINDS", "Kind", "Packed", "Selection", "kind_of", "pack", "packed_bytes", "select"]

_PREFIX = "jepascore-export-"
_SCRATCH = "jepascore-notes-"
_KEPT_S = 3600.0
MOST_BYTES_SHARED = 256 << 20  # of the images in a temporary file of a read-only dashboard,
MOST_FILES_SHARED = 4  # which keeps so many of them, and makes one at a time
_sharing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed.

    Attributes:
        path: The file or folder.
        kind: What it is.
        images: Rows of a table, or images that are in it.
        missing: Images that were asked for and could not be had; ``missing.txt`` in the pack says why.
    """

    path: Path
    kind: Kind
    images: int
    missing: int = 0


def pack(
    selection: Selection,
    kind: str,
    path: str | Path | None = None,
    *,
    rule: ScoreRule | None = None,
    open_dataset: Callable[[str], Dataset] = load_here,
    on_progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Packed:
    """Write images of runs to one file, whole or not at all; memory does not grow with their number.

    Args:
        selection: The images of each run, by key; None means all of them.
        kind: One of ``KINDS``.
        path: The file, replaced if it exists; for kinds that may be folders, a name without ``.zip`` makes one, which
            must be absent or empty. None makes a temporary file, which is removed when another is made an hour later;
            in a read-only dashboard only ``MOST_FILES_SHARED`` of them are kept, with at most ``MOST_BYTES_SHARED`` of
            images each.
        rule: Convention of the score; None is the stored one.
        open_dataset: Opens a dataset by id; by default only one that is on this machine.
        on_progress: Told images done, and all; not called for tables.
        stop: Set it to give up.

    Returns:
        The file, and how many images it holds and lacks.

    Raises:
        RunError: The kind is unknown, a run has no score under the rule, no image can be had, the file cannot be
            written, or it would be too large for a read-only dashboard.
        Cancelled: ``stop`` was set.
    """
    target = expanded(path) if path is not None else None
    made = kind_of(kind, target)
    rule = rule or ScoreRule()
    shared = target is None and read_only()
    with (
        _sharing if shared else contextlib.nullcontext(),
        _temporary(made, shared) if target is None else contextlib.nullcontext(target) as file,
    ):
        if made.layout is None:
            return Packed(file, made, export_selection(selection, file, rule=rule))
        source = thumbnail if made.thumbnails else originals(open_dataset)
        found = pictures(selection, source, rule, thumbnails=made.thumbnails)
        found = _bounded(found) if shared else found
        images, missing = _fill(file, made.layout(), _watched(found, count(selection), on_progress, stop))
        return Packed(file, made, images, missing)


def packed_bytes(selection: Selection, kind: str, *, rule: ScoreRule | None = None) -> bytes:
    """What ``pack`` writes, as bytes; nothing stays on the disk.

    Args:
        selection: As for ``pack``.
        kind: As for ``pack``.
        rule: As for ``pack``.

    Returns:
        The file.
    """
    packed = pack(selection, kind, rule=rule)
    try:
        return packed.path.read_bytes()
    finally:
        shutil.rmtree(packed.path.parent, ignore_errors=True)


def _bounded(found: Iterator[Picture | Missing]) -> Iterator[Picture | Missing]:
    """The same images, as long as they fit a shared dashboard's temporary folder.

    Raises:
        RunError: They do not.
    """
    size = 0
    for one in found:
        size += len(one.data) if isinstance(one, Picture) else 0
        if size > MOST_BYTES_SHARED:
            raise RunError(
                f"An export of a read-only dashboard holds at most {MOST_BYTES_SHARED >> 20} MiB of images: "
                "select fewer, or take their thumbnails or keys."
            )
        yield one


def _fill(path: Path, layout: Layout, found: Iterator[Picture | Missing]) -> tuple[int, int]:
    """Write images and what is known of them; count those that are there and those that are not."""
    with archive(path) as add, tempfile.TemporaryDirectory(prefix=_SCRATCH) as scratch:
        notes, absent = Path(scratch) / "notes", Path(scratch) / "missing.txt"
        with notes.open("w", encoding="utf-8", newline="") as listed, absent.open("w", encoding="utf-8") as lacking:
            images, missing, reason = _add_all(add, layout, found, listed, lacking)
        if not images:
            raise RunError(f"No image can be exported: {reason or 'none is chosen.'}")
        for name, file in layout.finish(notes).items():
            add(name, file)
        if missing:
            add(absent.name, absent)
        return images, missing


def _add_all(
    add: Add, layout: Layout, found: Iterator[Picture | Missing], listed: TextIO, lacking: TextIO
) -> tuple[int, int, str]:
    """Add each image and list it. Gives the numbers of those added and those lacking, and the first reason."""
    images, missing, reason = 0, 0, ""
    for one in found:
        if isinstance(one, Missing):
            missing, reason = missing + 1, reason or one.reason
            lacking.write(f"{key_line(one.key, one.run)[:-1]}\t{key_line(storable(one.reason))}")
            continue
        images += 1
        place = layout.place(images, one)
        add(place, one.data)
        listed.write(layout.note(place, one.facts))
    return images, missing, reason


def _watched(
    found: Iterator[Picture | Missing],
    total: int,
    on_progress: Callable[[int, int], None] | None,
    stop: threading.Event | None,
) -> Iterator[Picture | Missing]:
    """The same images, told as they come."""
    for done, one in enumerate(found, 1):
        if stop is not None and stop.is_set():
            raise Cancelled("Cancelled; nothing was written.")
        yield one
        if on_progress is not None:
            on_progress(done, total)


@contextlib.contextmanager
def _temporary(kind: Kind, shared: bool) -> Iterator[Path]:
    """A file in a new folder that only we can read; old ones, and all but a few of a shared dashboard, go first."""
    written: dict[Path, float] = {}
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            written[folder] = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    newest = sorted(written, key=written.__getitem__, reverse=True)
    kept = newest[: MOST_FILES_SHARED - 1] if shared else newest
    for folder, moment in written.items():
        if folder not in kept or time.time() - moment > _KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise RunError(f"Cannot make a temporary file ({why(error)}).") from error
    try:
        yield folder / kind.file_name
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
