"""Write rows of runs as tables that other programs read."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from jepascore_core.errors import RunError
from jepascore_core.files import expanded, storable, why, written_aside
from jepascore_core.store.database import query_batches
from jepascore_core.store.key_lines import key_line
from jepascore_core.store.parts import SCHEMA
from jepascore_core.store.rule import ScoreRule, columns_beside, score_column
from jepascore_core.store.runs import Run

Selection = Mapping[Run, Sequence[str] | None]  # the images of each run, by key; None means all of them

_NUMBERS_AND_TEXT = [name for name in SCHEMA.names if not re.match("list|binary", str(SCHEMA.field(name).type))]


def export(run: Run, path: str | Path, *, rule: ScoreRule | None = None, keys: Sequence[str] | None = None) -> int:
    """Write a run's rows to one file, whole or not at all.

    ``.csv`` holds every number and text of each image, also of those without a score; text that a
    spreadsheet would run as a formula is preceded by an apostrophe. ``.parquet`` holds every column.
    ``.txt`` is the list of keys that have a score, one a line, as ``key_line`` writes it.

    Args:
        run: The run.
        path: The file; its ending decides the format; replaced if it exists.
        rule: Convention of ``jepa_score``; None is the stored one.
        keys: The images to write; None writes all.

    Returns:
        Number of rows written.

    Raises:
        RunError: The ending is unknown, the run has no score under the rule, or the file cannot be written.
    """
    return export_selection({run: keys}, path, rule=rule)


def export_selection(selection: Selection, path: str | Path, *, rule: ScoreRule | None = None) -> int:
    """Write rows of several runs to one file, as ``export`` does for one.

    With more than one run, the first column, ``run``, names it; in ``.txt`` a tab stands between run and key.

    Args:
        selection: The images to write of each run, by key; None means all of them.
        path: The file; its ending decides the format; replaced if it exists.
        rule: Convention of ``jepa_score``; None is the stored one.

    Returns:
        Number of rows written.

    Raises:
        RunError: The ending is unknown, a run has no score under the rule, or the file cannot be written.
    """
    path = expanded(path)
    write = {".csv": _write_csv, ".parquet": _write_parquet, ".txt": _write_keys}.get(path.suffix.lower())
    if write is None:
        raise RunError(f"Cannot export to {path.name!r}: the name must end in .csv, .parquet or .txt.")
    several = len(selection) > 1
    columns = SCHEMA.names if write is _write_parquet else _NUMBERS_AND_TEXT
    fields = [pa.field("run", pa.string())] * several + [SCHEMA.field(name) for name in columns]
    streams = (
        stream(run, columns, keys=keys, rule=rule, named=several, scored=write is _write_keys)
        for run, keys in selection.items()
    )
    try:
        with written_aside(path) as aside:
            return write(aside, itertools.chain.from_iterable(streams), pa.schema(fields))
    except OSError as error:
        raise RunError(f"Cannot write {path} ({why(error)}).") from error


def stream(
    run: Run,
    columns: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    rule: ScoreRule | None = None,
    named: bool = False,
    scored: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Rows of a run, a batch at a time, by index.

    Args:
        run: The run.
        columns: Which columns of ``SCHEMA``.
        keys: Which images; None means all. A key that the run does not hold is passed over.
        rule: Convention of ``jepa_score``; None is the stored one.
        named: Put a column ``run`` with the run's name first.
        scored: Leave out images without a score.

    Yields:
        Batches of a few thousand rows.

    Raises:
        RunError: The run has no score under the rule, or cannot be queried.
    """
    rule = rule or ScoreRule()
    score = score_column(run, rule)
    wanted = [f'{score} AS "{name}"' if name == "jepa_score" else f'rows."{name}"' for name in columns]
    conditions = ['"key" IN (SELECT unnest($keys))'] * (keys is not None) + ["rows.jepa_score IS NOT NULL"] * scored
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values: dict[str, object] = {} if keys is None else {"keys": list(keys)}
    if named:
        wanted, values["run"] = ["$run AS run", *wanted], storable(run.name)
    question = f"SELECT {', '.join(wanted)} FROM rows {where} ORDER BY index"
    yield from query_batches(run.path, question, beside=columns_beside(run, rule), **values)


def _write_csv(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    with pa.csv.CSVWriter(path, schema) as writer:
        return _write_all(batches, lambda table: writer.write_table(disarmed(table)), schema)


def _write_parquet(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    with pq.ParquetWriter(path, schema.with_metadata(SCHEMA.metadata), compression="zstd") as writer:
        return _write_all(batches, writer.write_table, schema.with_metadata(SCHEMA.metadata))


def _write_keys(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    named = "run" in schema.names
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(table: pa.Table) -> None:
            runs = table["run"].to_pylist() if named else itertools.repeat(None)
            file.writelines(key_line(key, run) for run, key in zip(runs, table["key"].to_pylist(), strict=False))

        return _write_all(batches, write, schema)


def _write_all(batches: Iterable[pa.RecordBatch], write: Callable[[pa.Table], object], schema: pa.Schema) -> int:
    """Write each batch in the columns' own types; count the rows."""
    rows = 0
    for batch in batches:
        write(pa.Table.from_batches([batch]).cast(schema))
        rows += batch.num_rows
    return rows


def disarmed(table: pa.Table) -> pa.Table:
    """Text cells that begin like a formula, preceded by an apostrophe, as OWASP advises.

    Args:
        table: Any table.

    Returns:
        The same table otherwise.
    """
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            armed = pc.match_substring_regex(table.column(number), r"^[=+\-@\t\r\n＝＋－＠]")
            text = pc.if_else(armed, pc.binary_join_element_wise("'", table.column(number), ""), table.column(number))
            table = table.set_column(number, field, text)
    return table
