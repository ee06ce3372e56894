"""What commands print: tables, strict JSON, progress bars."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer


def print_rows(rows: list[dict[str, Any]], as_json: bool, columns: list[str]) -> None:
    """Print rows as JSON, or the columns of them as an aligned table."""
    if as_json:
        print_json(rows)
        return
    cells = [columns, *([one_line(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(value: Any) -> None:
    """Print strict JSON: a number that is not finite becomes null."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=True, default=str))


def _finite(value: Any) -> Any:
    """The same value with NaN and infinities, which JSON does not know, as None."""
    if isinstance(value, dict):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value


def one_line(value: Any) -> str:
    """Text that cannot break a line or move a terminal's cursor."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() or letter == "\u202f" else "�" for letter in text)  # 1 000


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; yields ``advance(done, total, note)``."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as progress:
        task = progress.add_task(escape(title), total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=escape(note))
