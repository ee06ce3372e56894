"""Some columns of each part of a run, part by part on two threads: quicker than a query where lists become numbers."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jepascore_core.errors import RunError
from jepascore_core.store.parts import problem_of

_Made = TypeVar("_Made")

_THREADS = min(2, os.cpu_count() or 1)
_PATIENCE_S = 30.0
_BREATH_S = 0.02
_BATCH_ROWS = 4096  # 21 MB of singular values at D = 1280


class PartsChangedError(RunError):
    """A part that was listed a moment ago is not there any more."""


def of_parts(
    paths: Sequence[Path],
    columns: Sequence[str],
    make: Callable[[pa.Table], _Made],
    *,
    most: Mapping[Path, int] | None = None,
) -> list[list[_Made] | None]:
    """Make something of every part of a run.

    Args:
        paths: The parts.
        columns: Columns to read.
        make: Gets some rows of one part, those with a score only, in their order; called on several threads.
        most: Rows of each part to look at; None looks at all.

    Returns:
        For each part what was made of its rows, or None where it is damaged.

    Raises:
        PartsChangedError: A part is gone; its rows may be in another one.
        RunError: A part cannot be read although it is whole.
    """

    def one(path: Path) -> list[_Made] | None:
        try:
            return [make(rows) for rows in _scored(path, columns, None if most is None else most[path])]
        except (OSError, pa.ArrowException) as error:
            if not path.exists():
                raise PartsChangedError(f"The rows of {path.parent.name} keep changing; ask again.") from error
            if problem_of(path, thorough=True) is None:
                first_line = str(error).strip().partition("\n")[0][:200]
                raise RunError(f"The rows of {path.parent.name} cannot be read ({first_line}).") from error
            return None

    if len(paths) < 2:
        return [one(path) for path in paths]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(one, paths))


def patiently(ask: Callable[[], _Made]) -> _Made:
    """Ask again as long as parts come and go, as while a run is compacted.

    Args:
        ask: Lists the parts and reads them.

    Returns:
        Its answer.

    Raises:
        PartsChangedError: They do so for half a minute.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ask()
        except PartsChangedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_BREATH_S)


def matrix(lists: pa.ListArray) -> NDArray[np.float32] | None:
    """Lists of one length as the rows of a matrix.

    Args:
        lists: (N,) lists of D numbers.

    Returns:
        (N, D), or None where there are none, one is null, or they differ in length.
    """
    if lists.null_count or not len(lists):
        return None
    lengths = lists.value_lengths().to_numpy()
    same = bool((lengths == lengths[0]).all())
    return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), lengths[0]) if same else None


def _scored(path: Path, columns: Sequence[str], most: int | None) -> Iterator[pa.Table]:
    """Those of the first rows of a part that have a score, not too many at a time."""
    wanted = list(dict.fromkeys(["jepa_score", *columns]))
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        left = file.metadata.num_rows if most is None else most
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
            table = pa.Table.from_batches([batch]).slice(0, left)
            left -= len(table)
            yield table.filter(pc.is_valid(table["jepa_score"])) if table["jepa_score"].null_count else table
            if left <= 0:
                break
