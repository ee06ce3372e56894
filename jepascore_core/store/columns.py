"""Some columns of each part of a run, part by part on two threads: quicker than a query where lists become numbers."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jepascore_core.errors import RunError
from jepascore_core.store.parts import problem_of

_Made = TypeVar("_Made")

_THREADS = min(2, os.cpu_count() or 1)
_BATCH_ROWS = 8192  # 42 MB of singular values at D = 1280


def of_parts(
    paths: Sequence[Path],
    columns: Sequence[str],
    make: Callable[[pa.Table], _Made],
    *,
    dictionaries: Sequence[str] = (),
) -> list[list[_Made] | None]:
    """Make something of every part of a run.

    Args:
        paths: The parts.
        columns: Columns to read.
        make: Gets some rows of one part, those with a score only, in their order; called on several threads.
        dictionaries: Those of the columns that are wanted as dictionaries.

    Returns:
        For each part what was made of its rows, or None where it is gone or damaged.

    Raises:
        RunError: A part cannot be read although it is whole.
    """

    def one(path: Path) -> list[_Made] | None:
        try:
            return [make(rows) for rows in _scored(path, columns, dictionaries)]
        except (OSError, pa.ArrowException) as error:
            if problem_of(path, thorough=True) is None:
                first_line = str(error).strip().partition("\n")[0][:200]
                raise RunError(f"The rows of {path.parent.name} cannot be read ({first_line}).") from error
            return None

    if len(paths) < 2:
        return [one(path) for path in paths]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(one, paths))


def _scored(path: Path, columns: Sequence[str], dictionaries: Sequence[str]) -> Iterator[pa.Table]:
    """Rows of a part that have a score, not too many at a time."""
    wanted = list(dict.fromkeys(["jepa_score", *columns]))
    with pq.ParquetFile(path, read_dictionary=list(dictionaries), page_checksum_verification=True) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
            table = pa.Table.from_batches([batch])
            yield table.filter(pc.is_valid(table["jepa_score"])) if table["jepa_score"].null_count else table
