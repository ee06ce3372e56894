"""Commands that take care of runs: ``verify`` and ``compact``."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from jepascore_core.commands.app import Json, RunNames, RunsDir, command
from jepascore_core.commands.printing import one_line, print_json, progress_bar

PANEL = "Take care of runs"  # of --help

AnyRuns = Annotated[
    list[str] | None, typer.Argument(metavar="[RUN]...", help="Names of runs, or folders. Default: every run.")
]


@command(PANEL, "verify jepa-tiny-photos-0123456789 --repair")
def verify(
    runs: AnyRuns = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set aside what is damaged, so that `score` scores just that again.")
    ] = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Check runs wholly: every file, every page of every part, every row. Exit code 1 when something is wrong.

    `--repair` keeps what is whole, renames what is damaged to `.damaged`, and deletes nothing that was scored; the
    same request then scores what is missing.
    """
    from jepascore_core import store

    opened = [store.open_run(run, runs_dir) for run in runs] if runs else store.list_runs(runs_dir)
    told = []
    for run in opened:
        facts = _checked(run, repair)
        told.append(facts)
        if not as_json:
            _print_facts(facts)
    if as_json:
        print_json(told)
    if not all(facts["sound"] for facts in told):
        raise typer.Exit(1)


@command(PANEL, "compact jepa-tiny-photos-0123456789")
def compact(runs: RunNames, runs_dir: RunsDir = None) -> None:
    """Make few large parts of a run's many small ones, so that it opens faster.

    May be interrupted, or killed, at any instant; the run can be read meanwhile. Rows stay as they are.
    """
    from jepascore_core import store
    from jepascore_core.processes import stop_on_signals
    from jepascore_core.store import compacting

    with stop_on_signals() as stop:
        for run in [store.open_run(run, runs_dir) for run in runs]:
            with progress_bar(run.name) as advance:
                came_to = compacting.compact(run.path, on_progress=partial(_advance, advance), stop=stop)
            typer.echo(f"{run.name}: {came_to.before} parts before, {came_to.after} now, {came_to.rows} rows")


def _advance(advance: Callable[[int, int, str], None], done: int, total: int) -> None:
    """Move the bar."""
    advance(done, total, "parts")


def _checked(run: Any, repair: bool) -> dict[str, Any]:
    """What a check of one run found, after repairing it if asked."""
    from jepascore_core.errors import RunError
    from jepascore_core.planned import planned_keys
    from jepascore_core.store import repairing, verifying

    keys, about_dataset = planned_keys(run)
    found, deeds, refused = verifying.verify(run.path, keys), [], []
    if repair and any(wrong.mendable for wrong in found.wrong):
        try:
            deeds = repairing.repair(run.path, keys)
            found = verifying.verify(run.path, keys)
        except RunError as error:
            refused = [str(error)]
    return {
        "name": run.name,
        "path": str(run.path),
        "sound": found.sound,
        "planned": found.planned,
        "done": found.done,
        "failed": found.failed,
        "right": list(found.right),
        "wrong": [
            {"subject": wrong.subject, "words": wrong.words, "mendable": wrong.mendable} for wrong in found.wrong
        ],
        "notes": [*found.notes, *([about_dataset] if about_dataset else []), *refused],
        "repaired": deeds,
    }


def _print_facts(facts: dict[str, Any]) -> None:
    """Print what was found, the verdict first."""
    mendable = sum(wrong["mendable"] for wrong in facts["wrong"])
    verdict = "sound" if facts["sound"] else f"{len(facts['wrong'])} wrong"
    hint = f", {mendable} of which --repair mends" if mendable else ""
    typer.echo(f"{facts['name']}: {verdict}{hint}{' after repair' if facts['repaired'] else ''}")
    lines = [("done", line) for line in facts["repaired"]]
    lines += [("wrong", wrong["words"]) for wrong in facts["wrong"]]
    lines += [("right", line) for line in facts["right"]] + [("note", line) for line in facts["notes"]]
    for kind, line in lines:
        typer.echo(f"  {kind:<5}  {one_line(line)}")
