"""Set damaged parts aside, and keep what is whole of them."""

import contextlib
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jepascore_core.files import written_aside
from jepascore_core.store import parts
from jepascore_core.store.part_writer import write_tables
from jepascore_core.text import plural


def set_damaged_aside(folder: Path, *, thorough: bool = False) -> list[str]:
    """Rename damaged parts, so that their images are planned again; row groups of theirs that are whole stay a part.

    Only for one who holds the run's lock.

    Args:
        folder: The run's folder.
        thorough: Look for damage in every page, and set parts of another format aside too.

    Returns:
        What was done, a sentence each.

    Raises:
        OSError: The folder cannot be written.
    """
    deeds = []
    for path in parts.part_files(folder):
        problem = parts.problem_of(path, thorough=thorough)
        if problem == parts.DAMAGED or (thorough and problem not in (None, parts.CLOSED, parts.VANISHED)):
            deeds.append(_set_aside(path, problem))
    return deeds


def keep_as(path: Path, aside: Path) -> None:
    """Give a part a second name, which stays when the first is given to another.

    Args:
        path: The part.
        aside: Its second name, which is free.

    Raises:
        OSError: The folder cannot be written.
    """
    try:
        os.link(path, aside)
    except OSError:  # file systems without links
        with written_aside(aside) as copy:
            shutil.copyfile(path, copy)


def _set_aside(path: Path, problem: str) -> str:
    """Set one part aside."""
    aside, rescued = parts.aside_name(path), 0
    groups = _whole_groups(path) if problem == parts.DAMAGED and path.is_file() else []
    if groups:
        keep_as(path, aside)
        rescued = write_tables(path, (_group(path, number) for number in groups))
    else:
        path.rename(aside)
    kept = f" {plural(rescued, 'row')} of it could be read and stay." if rescued else ""
    return f"{path.name} {problem}, and is now {aside.name}.{kept}"


def _whole_groups(path: Path) -> list[int]:
    """Row groups of a damaged part of which every page can be read."""
    try:
        with pq.ParquetFile(path) as file:
            found = file.num_row_groups if file.schema_arrow.equals(parts.SCHEMA) else 0
    except (OSError, pa.ArrowException):
        return []
    whole = []
    for number in range(found):
        with contextlib.suppress(OSError, pa.ArrowException):
            _group(path, number).validate(full=True)
            whole.append(number)
    return whole


def _group(path: Path, number: int) -> pa.Table:
    """One row group, its checksums compared."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read_row_group(number)
