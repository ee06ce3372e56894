"""DuckDB in memory over the Parquet parts of a run: no database file, nothing to lock or corrupt."""

import functools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

from jepascore_core.allowed import read_only
from jepascore_core.errors import RunError
from jepascore_core.store.parts import SCHEMA, problem_of, readable_parts

_Answer = TypeVar("_Answer")

_ATTEMPTS = 4
_PATIENCE_S = 30.0  # for parts that vanish again and again, as while a run is compacted
_BATCH_ROWS = 4096
_making = threading.Lock()


def query(
    folder: Path, sql: str, among: Sequence[Path] | None = None, /, *, beside: pa.Table | None = None, **values: object
) -> pd.DataFrame:
    """Ask something of the rows of a run.

    Parts that appear meanwhile are for the next query; a part that vanishes or proves damaged is left out.

    Args:
        folder: The run's folder.
        sql: The question; ``rows`` is the table of all rows. Columns are read only where named.
        among: Parts that ``rows`` is made of; None takes all.
        beside: More columns of ``rows``, matched by ``index``; null where a row is not in it.
        values: Values of ``$name`` in the question. Text from data goes here, never into the question.

    Returns:
        The answer.

    Raises:
        RunError: The parts cannot be queried.
    """
    return _ask(folder, sql, values, beside, among, lambda answer: answer.df())


def query_arrow(
    folder: Path, sql: str, among: Sequence[Path] | None = None, /, *, beside: pa.Table | None = None, **values: object
) -> pa.Table:
    """As ``query``, for long lists of numbers: an Arrow table.

    Args:
        folder: The run's folder.
        sql: The question.
        among: Parts that ``rows`` is made of, as in ``query``.
        beside: More columns of ``rows``, as in ``query``.
        values: Values of ``$name`` in the question.

    Returns:
        The answer.

    Raises:
        RunError: The parts cannot be queried.
    """
    return _ask(folder, sql, values, beside, among, lambda answer: answer.to_arrow_table())


def query_batches(
    folder: Path, sql: str, *, beside: pa.Table | None = None, **values: object
) -> Iterator[pa.RecordBatch]:
    """As ``query``, for answers that may not fit in memory: a batch of rows at a time.

    Args:
        folder: The run's folder.
        sql: The question.
        beside: More columns of ``rows``, as in ``query``.
        values: Values of ``$name`` in the question.

    Yields:
        Batches.

    Raises:
        RunError: The parts cannot be queried.
    """
    begun, deadline = False, time.monotonic() + _PATIENCE_S
    while True:
        paths = readable_parts(folder)
        with _connect() as connection:
            try:
                for batch in _relation(connection, sql, paths, values, beside).to_arrow_reader(_BATCH_ROWS):
                    begun = True
                    yield batch
                return
            except (duckdb.Error, pa.ArrowException, UnicodeError) as error:
                if begun or not _vanished(paths) or time.monotonic() > deadline:
                    raise RunError(_why(folder, paths, error)) from error


def _ask(
    folder: Path,
    sql: str,
    values: dict[str, object],
    beside: pa.Table | None,
    among: Sequence[Path] | None,
    fetch: Callable[[duckdb.DuckDBPyRelation], _Answer],
) -> _Answer:
    """Query the parts that can be read, again when one of them turns out to be gone or damaged.

    Raises:
        RunError: The parts cannot be queried.
    """
    failure: Exception | None = None
    paths: list[Path] = []
    attempts, deadline = _ATTEMPTS, time.monotonic() + _PATIENCE_S
    while attempts:
        paths = readable_parts(folder)
        if among is not None and set(among) <= set(paths):  # else others may have taken their place
            paths = list(among)
        with _connect() as connection:
            try:
                return fetch(_relation(connection, sql, paths, values, beside))
            except (duckdb.Error, UnicodeError) as error:
                failure = error
        if _vanished(paths) and time.monotonic() < deadline:  # compaction put another in their place
            continue
        attempts -= 1
        # which part was it? Reading them all is slow, and only happens when one is damaged
        if all([problem_of(path, thorough=True) is None for path in paths]):
            break
    raise RunError(_why(folder, paths, failure)) from failure


def _vanished(paths: Sequence[Path]) -> bool:
    """Whether any of some parts is gone."""
    return not all(path.exists() for path in paths)


def _relation(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    paths: list[Path],
    values: dict[str, object],
    beside: pa.Table | None,
) -> duckdb.DuckDBPyRelation:
    """The question, ready to be answered."""
    parameters = {**values, "parts": [str(path) for path in paths]} if paths else values
    stored = "FROM read_parquet($parts)" if paths else _EMPTY
    if beside is not None:
        connection.register("beside", beside)  # seen by this connection alone
        stored = f"FROM ({stored}) LEFT JOIN beside USING (index)"
    return connection.sql(f"WITH rows AS ({stored}) {sql}", params=parameters)


def _connect() -> duckdb.DuckDBPyConnection:
    """A connection of its own to the shared engine, since a connection serves one thread at a time."""
    with _making:
        return _engine().cursor()


@functools.cache
def _engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",  # the network is none of a query's business
            "temp_directory": str(Path(tempfile.gettempdir()) / "jepascore-duckdb"),
            **({"max_temp_directory_size": "4GiB"} if read_only() else {}),  # no visitor fills the disk
        },
    )


def _empty() -> str:
    """A table without rows that has every column of a part."""
    kinds = {
        "int64": "BIGINT", "int32": "INTEGER", "string": "VARCHAR", "double": "DOUBLE", "binary": "BLOB",
        "list<element: float>": "FLOAT[]", "list<element: double>": "DOUBLE[]",
        "list<item: float>": "FLOAT[]", "list<item: double>": "DOUBLE[]",
    }  # fmt: skip
    columns = [f'NULL::{kinds[str(field.type)]} AS "{field.name}"' for field in SCHEMA]
    return f"SELECT {', '.join(columns)} WHERE false"


_EMPTY = _empty()


def _why(folder: Path, paths: Sequence[Path], error: Exception | None) -> str:
    """One sentence on what DuckDB said."""
    if _vanished(paths):
        return f"The rows of {folder.name} were moved or compacted while they were read; ask again."
    first_line = str(error).strip().partition("\n")[0][:200]
    return f"The rows of {folder.name} cannot be queried ({first_line})."
