"""Write a run's rows where other programs read them."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from jepascore_core.errors import RunError
from jepascore_core.files import why, written_aside
from jepascore_core.store.database import query_batches
from jepascore_core.store.parts import SCHEMA
from jepascore_core.store.rule import ScoreRule, columns_beside, score_column
from jepascore_core.store.runs import Run

_NUMBERS_AND_TEXT = [name for name in SCHEMA.names if not re.match("list|binary", str(SCHEMA.field(name).type))]


def export(run: Run, path: str | Path, *, rule: ScoreRule | None = None, keys: Sequence[str] | None = None) -> int:
    """Write a run's rows to one file, whole or not at all.

    ``.csv`` holds every number and text of each image, also of those without a score; text that a
    spreadsheet would run as a formula is preceded by an apostrophe. ``.parquet`` holds every column.
    ``.txt`` is the list of keys that have a score, one a line, backslash and line breaks escaped.

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
    path = Path(path).expanduser()
    write = {".csv": _write_csv, ".parquet": _write_parquet, ".txt": _write_keys}.get(path.suffix.lower())
    if write is None:
        raise RunError(f"Cannot export to {path.name!r}: the name must end in .csv, .parquet or .txt.")
    wanted = SCHEMA.names if write is _write_parquet else _NUMBERS_AND_TEXT
    rule = rule or ScoreRule()
    score = score_column(run, rule)
    columns = ", ".join(f'{score} AS "{name}"' if name == "jepa_score" else f'rows."{name}"' for name in wanted)
    conditions = ['"key" IN (SELECT unnest($keys))'] if keys is not None else []
    conditions += ["rows.jepa_score IS NOT NULL"] if write is _write_keys else []
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values: dict[str, object] = {} if keys is None else {"keys": list(keys)}
    question = f"SELECT {columns} FROM rows {where} ORDER BY index"
    batches = query_batches(run.path, question, beside=columns_beside(run, rule), **values)
    try:
        with written_aside(path) as aside:
            return write(aside, batches, pa.schema([SCHEMA.field(name) for name in wanted]))
    except OSError as error:
        raise RunError(f"Cannot write {path} ({why(error)}).") from error


def _write_csv(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    with pa.csv.CSVWriter(path, schema) as writer:
        return _write_all(batches, lambda table: writer.write_table(disarmed(table)), schema)


def _write_parquet(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    with pq.ParquetWriter(path, schema.with_metadata(SCHEMA.metadata), compression="zstd") as writer:
        return _write_all(batches, writer.write_table, schema.with_metadata(SCHEMA.metadata))


def _write_keys(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> int:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        return _write_all(batches, lambda table: file.writelines(map(_line, table["key"].to_pylist())), schema)


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


def _line(key: str) -> str:
    return key.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + "\n"
