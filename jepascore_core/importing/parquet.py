"""Read Parquet: only the columns that we know, a batch at a time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jepascore_core.errors import ImportedFileError
from jepascore_core.files import why
from jepascore_core.importing.columns import LISTS, SYNONYMS, match, no_choice, shown
from jepascore_core.importing.table import MOST_ROWS, MOST_VALUES, Columns, Table

_PIECE = 4_096  # rows


def read_parquet(path: Path, score_column: str | None = None) -> Table:
    """Read a Parquet file.

    Args:
        path: The file.
        score_column: The column of scores, where the person said so.

    Returns:
        The table.

    Raises:
        ImportedFileError: It is damaged, holds too much, or has no score that can be told.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            # such as the images of a dataset in a column named "image": neither a key nor anything else that we know
            names = [field.name for field in schema if not _is_unusable(field)]
            found = match(names, path.name, score_column)
            _check(file, found, path.name)
            columns = Columns(path.name, found, no_choice(schema.names, found))
            for batch in file.iter_batches(_PIECE, columns=list(found.values())):
                columns.add({kind: _cells(batch[name], kind) for kind, name in found.items()}, batch.num_rows)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        words = f"cannot be read ({why(error)})" if isinstance(error, OSError) and error.errno else "is damaged"
        raise ImportedFileError(f"{path.name} {words}, or is not Parquet.") from error
    return columns.table()


def _check(file: pq.ParquetFile, found: dict[str, str], where: str) -> None:
    """Refuse what claims to be too large before it is read, and what is of the wrong type.

    Raises:
        ImportedFileError: It is so.
    """
    if file.metadata.num_rows > MOST_ROWS:
        raise ImportedFileError(f"{where} has more than {MOST_ROWS:,} rows.")
    numbers = 0
    for group in range(file.metadata.num_row_groups):
        held = file.metadata.row_group(group)
        for leaf in range(held.num_columns):
            if held.column(leaf).path_in_schema.split(".")[0] in found.values():
                numbers += held.column(leaf).num_values
    if numbers > MOST_VALUES:
        raise ImportedFileError(f"{where} holds more than {MOST_VALUES:,} numbers; use .npy for so many.")
    for kind, name in found.items():
        held_type = file.schema_arrow.field(name).type
        if _is_list(held_type) != (kind in LISTS) and not _is_text(held_type):
            raise ImportedFileError(
                f"Column {shown(name)} of {where} holds {held_type}; expected "
                f"{'a list of numbers' if kind in LISTS else 'one value'} an image."
            )


def _cells(column: pa.Array, kind: str) -> list[object]:
    """A column's values; lists as arrays."""
    if kind not in LISTS or _is_text(column.type):
        return column.to_pylist()
    return [None if row is None or not row.is_valid else row.values.to_numpy(zero_copy_only=False) for row in column]


def _is_text(kind: pa.DataType) -> bool:
    """Whether a cell is text, which may spell out a list as in CSV."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_list(kind: pa.DataType) -> bool:
    """Whether a cell is a list of numbers."""
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return listed and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _is_unusable(field: pa.Field) -> bool:
    """Whether a column has a name of keys and a type that no key has, such as a struct of an image's bytes."""
    named = field.name.lower() in SYNONYMS["key"]
    return named and (pa.types.is_nested(field.type) or pa.types.is_binary(field.type))
