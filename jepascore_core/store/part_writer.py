"""Write rows into Parquet parts, each whole or absent, without making the scoring wait."""

import contextlib
import itertools
import queue
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jepascore_core.errors import RunError, lacks_memory
from jepascore_core.files import why, written_aside
from jepascore_core.store.parts import SCHEMA, Row, last_number

_ROW_GROUP = 512  # a gallery reads the row groups of the images that it shows: about 2 MB of thumbnails each
_PART_ROWS = 4096  # 60 MB in memory at D = 1280, and 250 parts for a million images
_FIRST_FLUSH_S = 1.5  # so that pages fill at once
_FLUSH_S = 10.0
_SLOWEST_FLUSH_S = 60.0  # reached after 100 minutes, so that a run of days does not make 100,000 parts
_QUEUED_BATCHES = 32
_LAYOUT = {
    "compression": {name: "NONE" if name == "thumbnail" else "ZSTD" for name in SCHEMA.names},  # JPEG is dense
    "use_dictionary": ["label", "class_name"],
    "write_page_checksum": True,
}


class PartWriter:
    """Writes rows into parts from a thread of its own, so that scoring never waits for a disk.

    The first part comes after about a second, so that pages fill; later ones when 10 seconds (a
    hundredth of the run's age when that is more, at most a minute) have passed or 4,096 rows are there.

    Args:
        folder: The run's folder; the caller holds its lock.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = last_number(folder)
        self._batches: queue.Queue[Sequence[Row] | None] = queue.Queue(_QUEUED_BATCHES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="part writer", daemon=True)

    def __enter__(self) -> "PartWriter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._batches.put(None, timeout=0.1)
                break
        self._thread.join()
        self._raise()

    def write(self, rows: Sequence[Row]) -> None:
        """Hand rows over; returns at once unless the disk is far behind.

        Args:
            rows: One dict for each image, with every column of ``SCHEMA``.

        Raises:
            RunError: An earlier part could not be written.
        """
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._batches.put(rows, timeout=0.1)
                break
        self._raise()

    def _raise(self) -> None:
        """Report what ended the thread.

        Raises:
            RunError: A part could not be written.
        """
        if self._error is not None:
            raise RunError(_sentence(self._error, self._folder)) from self._error

    def _work(self) -> None:
        try:
            self._collect()
        except BaseException as error:
            self._error = error

    def _collect(self) -> None:
        """Gather rows until a part is due; ends after the None of ``__exit__``."""
        pending: list[Row] = []
        started = flushed = time.monotonic()
        interval = _FIRST_FLUSH_S
        open_ = True
        while open_:
            with contextlib.suppress(queue.Empty):
                batch = self._batches.get(timeout=max(0.0, flushed + interval - time.monotonic()))
                open_ = batch is not None
                pending += batch or ()
            now = time.monotonic()
            if len(pending) >= _PART_ROWS or not open_ or now - flushed >= interval:
                if pending:
                    self._number += 1
                    write_part(self._folder, self._number, pending)
                    pending = []
                    interval = min(max(_FLUSH_S, (now - started) / 100), _SLOWEST_FLUSH_S)
                flushed = now


def write_part(folder: Path, number: int, rows: Sequence[Row]) -> Path:
    """Write one part, whole or not at all.

    Args:
        folder: The run's folder.
        number: Its place in the order of writing.
        rows: One dict for each image, with every column of ``SCHEMA``.

    Returns:
        The part's path.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    return write_table(folder, number, pa.Table.from_pylist(list(rows), schema=SCHEMA))


def write_table(folder: Path, number: int, table: pa.Table) -> Path:
    """Write one part, whole or not at all.

    Args:
        folder: The run's folder.
        number: Its place in the order of writing.
        table: Its rows, in ``SCHEMA``.

    Returns:
        The part's path.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    # the random end keeps two writers on different machines from ever replacing each other's parts
    path = folder / f"part-{number:06d}-{uuid.uuid4().hex[:8]}.parquet"
    with written_aside(path) as aside:
        pq.write_table(table, aside, row_group_size=_ROW_GROUP, **_LAYOUT)
    return path


def write_tables(path: Path, tables: Iterable[pa.Table]) -> int:
    """Write one part from tables that need not fit in memory together, whole or not at all.

    Args:
        path: The part to make or replace.
        tables: Its rows, in ``SCHEMA``; small ones are joined into row groups of the usual size.

    Returns:
        Rows written; without any, no part is made and none replaced.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    groups = _regrouped(tables)
    first = next(groups, None)
    if first is None:
        return 0
    with written_aside(path) as aside:
        return write_groups(aside, itertools.chain([first], groups))


def write_groups(path: Path, tables: Iterable[pa.Table]) -> int:
    """As ``write_tables``, straight to a path, which is made in any case and is half written meanwhile.

    Args:
        path: File to write.
        tables: Rows.

    Returns:
        Rows written.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    written = 0
    with pq.ParquetWriter(path, SCHEMA, **_LAYOUT) as writer:
        for group in _regrouped(tables):
            writer.write_table(group, row_group_size=_ROW_GROUP)
            written += len(group)
    return written


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of a row group each."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) >= _ROW_GROUP:
            joined = pa.concat_tables(held)
            yield joined.slice(0, _ROW_GROUP)
            held = [joined.slice(_ROW_GROUP)]
    left = pa.concat_tables(held) if held else None
    if left is not None and len(left):
        yield left


def _sentence(error: BaseException, folder: Path) -> str:
    """One sentence for a person whose disk failed."""
    if not folder.is_dir():
        return f"The run's folder {folder} is gone: somebody moved or deleted it; the same request scores it again."
    words = "memory ran out" if lacks_memory(error) else why(error) if isinstance(error, OSError) else str(error)
    return f"Cannot write in {folder} ({words}); what is stored stays, and the run can be resumed."
