"""Random access to one column of bytes in Parquet files, within bounded memory."""

import tempfile
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jepascore_core.datasets.keys import printable
from jepascore_core.datasets.watch import gone
from jepascore_core.errors import DatasetGone, ImageError

CACHE_BYTES = 1 << 28  # 256 MiB of row groups in memory, shared by all threads
SPILL_BYTES = 1 << 26  # a row group above 64 MiB goes to a temporary file once, and is mapped from there
BUFFER_BYTES = 1 << 20
BATCH_BYTES = 1 << 24  # 16 MiB decoded at a time


class File(Protocol):
    """What is needed of a Parquet file."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def time_ns(self) -> int: ...  # noqa: D102
    @property
    def footer(self) -> pq.FileMetaData: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Group:
    """One row group's cells, in chunks."""

    chunks: list[pa.Array]
    ends: list[int]
    memory_bytes: int

    def read(self, row: int) -> bytes | None:
        """One cell."""
        chunk = bisect_right(self.ends, row)
        return self.chunks[chunk][row - (self.ends[chunk - 1] if chunk else 0)].as_py()


class RowGroups:
    """Cells of one column by file and row; the row groups used last stay in memory. Safe to share between threads."""

    def __init__(self, files: Sequence[File], column: str) -> None:
        """Point at a column.

        Args:
            files: Parquet files that have the column.
            column: Name of a column of bytes, or of structs with a field ``bytes``.
        """
        self._files = files
        self._column = column
        self._ends = [
            list(accumulate(file.footer.row_group(number).num_rows for number in range(file.footer.num_row_groups)))
            for file in files
        ]
        self._damaged: set[tuple[int, int]] = set()
        self._cache: OrderedDict[tuple[int, int], _Group] = OrderedDict()
        # One row group is decoded at a time, which bounds memory; images are decoded side by side.
        self._lock = threading.Lock()
        self._spilled: tempfile.TemporaryDirectory[str] | None = None

    def read(self, file: int, row: int) -> bytes | None:
        """Read one cell.

        Args:
            file: Number of the file.
            row: Number of the row in that file.

        Returns:
            Its bytes, or None where the cell is null.

        Raises:
            ImageError: The row group is damaged.
            DatasetGone: The file is gone, or was replaced since it was listed.
        """
        group = bisect_right(self._ends[file], row)
        first = self._ends[file][group - 1] if group else 0
        with self._lock:
            if (file, group) not in self._damaged:
                self._compare(file, group)
                try:
                    return self._group(file, group).read(row - first)
                except (pa.ArrowException, OSError, IndexError, KeyError, ValueError):
                    self._damaged.add((file, group))  # not to be tried again for each of its rows
        path = printable(Path(self._files[file].path).name)
        raise ImageError(f"Row group {group} of {path} is damaged.")

    def _compare(self, file: int, group: int) -> None:
        """Make sure that a row group about to be read is of the file that was listed, not of one that took its place.

        Raises:
            DatasetGone: It is not.
        """
        if (file, group) in self._cache:
            return
        listed = self._files[file]
        path = printable(listed.path)
        try:
            status = Path(listed.path).stat()
        except OSError as error:
            raise DatasetGone(gone(path, "it is")) from error
        if (status.st_size, status.st_mtime_ns) != (listed.size, listed.time_ns):
            raise DatasetGone(
                f"{path} was written anew after its rows were listed. What is scored is of its earlier state; ask "
                "again for the present one."
            )

    def _group(self, file: int, group: int) -> _Group:
        """A row group from memory, or from the file; the one used longest ago makes room."""
        if (file, group) not in self._cache:
            self._cache[file, group] = self._load(file, group)
        self._cache.move_to_end((file, group))
        while len(self._cache) > 1 and sum(held.memory_bytes for held in self._cache.values()) > CACHE_BYTES:
            oldest = next(key for key, held in self._cache.items() if held.memory_bytes)
            del self._cache[oldest]
        return self._cache[file, group]

    def _load(self, file: int, group: int) -> _Group:
        """Decode a row group into memory, or through a temporary file when it is large."""
        chunks: list[pa.Array] = []
        size = 0
        for chunk in self._decode(file, group):
            chunks.append(chunk)
            size += chunk.nbytes
            if size > SPILL_BYTES:
                chunks = self._spill(file, group)
                size = 0
                break
        return _Group(chunks, list(accumulate(map(len, chunks))), size)

    def _spill(self, file: int, group: int) -> list[pa.Array]:
        """Copy a row group's cells to a temporary Arrow file, and map it."""
        if self._spilled is None:
            self._spilled = tempfile.TemporaryDirectory(prefix="jepascore-")
        path = str(Path(self._spilled.name, f"{file}-{group}.arrow"))
        schema = pa.schema([("bytes", pa.large_binary())])
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for chunk in self._decode(file, group):
                writer.write_batch(pa.record_batch([chunk], schema=schema))
        return pa.ipc.open_file(pa.memory_map(path)).read_all().column(0).chunks

    def _decode(self, file: int, group: int) -> Iterator[pa.Array]:
        """The cells of a row group, a few at a time, as large binary arrays."""
        footer = self._files[file].footer
        rows = footer.row_group(group).num_rows
        row_bytes = max(1, footer.row_group(group).total_byte_size // max(1, rows))
        batch_size = min(64, max(1, BATCH_BYTES // row_bytes))
        # With a small buffer Arrow reads a row group page by page, but trusts a damaged page that claims 2 GB.
        whole = min(self._files[file].size, footer.row_group(group).total_byte_size)
        buffer_size = BUFFER_BYTES if whole > SPILL_BYTES else 0
        path = self._files[file].path
        with pq.ParquetFile(path, metadata=footer, pre_buffer=False, buffer_size=buffer_size) as opened:
            field = opened.schema_arrow.field(self._column)
            leaf = f"{self._column}.bytes" if pa.types.is_struct(field.type) else self._column
            for batch in opened.iter_batches(batch_size, row_groups=[group], columns=[leaf], use_threads=False):
                cells = batch.column(0)
                cells = pc.struct_field(cells, "bytes") if pa.types.is_struct(cells.type) else cells
                yield cells.cast(pa.large_binary())
