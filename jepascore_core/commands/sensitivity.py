"""The command ``sensitivity``: does the score notice?"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from jepascore_core.commands.app import Classes, Device, Job, Json, Limit, PerClass, RunName, RunsDir, command
from jepascore_core.commands.printing import one_line, print_json, print_rows, progress_bar
from jepascore_core.errors import RunError

PANEL = "Decide"  # of --help


class Experiment(StrEnum):
    """What can be asked."""

    corruptions = "corruptions"
    leave_one_out = "leave-one-out"
    label_noise = "label-noise"
    layers = "layers"


@command(PANEL, "sensitivity jepa-tiny-photos-0123456789 --experiment corruptions --run --limit 100")
def sensitivity(
    run: RunName,
    experiment: Annotated[Experiment, typer.Option(help="What is done to the images, classes or labels.")] = (
        Experiment.corruptions
    ),
    out: Annotated[
        str | None, typer.Option(metavar="RUN", help="Layers: run of the images that are to be told from those of RUN.")
    ] = None,
    score_missing: Annotated[
        bool, typer.Option("--run", help="Corruptions and layers: first score the runs that are missing; resumable.")
    ] = False,
    kinds: Annotated[str | None, typer.Option(help="Corruptions: blur, noise, jpeg, occlusion; with commas.")] = None,
    severities: Annotated[str | None, typer.Option(help="Corruptions: some of 1 to 5, with commas.")] = None,
    per_class: PerClass = None,
    limit: Limit = None,
    classes: Classes = None,
    shares: Annotated[str | None, typer.Option(help="Label noise: shares of the labels, with commas.")] = None,
    methods: Annotated[str | None, typer.Option(help="Names of methods, with commas; all that are possible.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of folds, models and shuffled labels.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
    runs_dir: RunsDir = None,
    job: Job = None,
) -> None:
    """Does the score notice? Corrupted images, a class left out, wrong labels, or layer by layer; 95 % intervals.

    `corruptions` compares each image with itself: mean change, share whose score falls, AUROC of clean over corrupted.
    `leave-one-out` lets each class in turn be the outliers. `label-noise` shuffles labels and looks for the wrong ones;
    plain JEPA-SCORE cannot see labels and stands there as the control. `layers` tells RUN from `--out` at each layer.
    No row is judged by a model that was fitted to it.
    """
    from jepascore_core import store

    opened = store.open_run(run, runs_dir)
    opened.check()
    wanted = _wanted(methods)
    if experiment is Experiment.leave_one_out:
        _leave_one_out(opened, store.split_classes(classes), wanted, seed, as_json)
    elif experiment is Experiment.label_noise:
        _label_noise(opened, _numbers("shares", shares, float), seed, as_json)
    elif experiment is Experiment.corruptions:
        doses = _doses(kinds, severities)
        if score_missing:
            _score_corrupted(opened, doses, per_class, limit, device, runs_dir, job)
        if job is None:
            _corruptions(opened, doses, wanted, seed, as_json)
    else:
        if out is None:
            raise RunError("Layers are compared on two sets of images: name the other run with --out.")
        other = store.open_run(out, runs_dir)
        other.check()
        layers = _layers_of(opened)
        if score_missing:
            _score_layers([opened, other], layers, per_class, limit, device, runs_dir, job)
        if job is None:
            _layers(opened, other, len(layers), wanted, seed, as_json)


def _score_corrupted(
    run: Any, doses: Sequence[Any], per_class: int | None, limit: int | None, device: str, runs_dir: Path | None,
    job: Path | None,
) -> None:  # fmt: skip
    """Score the corrupted images that no finished run holds."""
    from dataclasses import replace

    from jepascore_core import store
    from jepascore_core.commands.scoring import score_all
    from jepascore_core.sensitivity import experiments

    requests = experiments.corrupted_requests(run, doses, per_class=per_class, limit=limit)
    found = experiments.find_corrupted(run, store.list_runs(run.path.parent))
    left = experiments.still_to_score(requests, found)
    score_all([replace(request, device=device) for request in left], runs_dir or run.path.parent, job, quiet=True)


def _score_layers(
    runs: Sequence[Any], layers: Sequence[str], per_class: int | None, limit: int | None, device: str,
    runs_dir: Path | None, job: Path | None,
) -> None:  # fmt: skip
    """Score the layers that no finished run holds, of both sets of images."""
    from dataclasses import replace

    from jepascore_core import store
    from jepascore_core.commands.scoring import score_all
    from jepascore_core.sensitivity import experiments

    left = []
    for run in runs:
        requests = experiments.layer_requests(run, layers, per_class=per_class, limit=limit)
        found = experiments.find_layers(run, store.list_runs(run.path.parent), len(layers))
        left += experiments.still_to_score(requests, found)
    home = runs_dir or runs[0].path.parent
    score_all([replace(request, device=device) for request in left], home, job, quiet=True)


def _corruptions(run: Any, doses: Sequence[Any], wanted: Sequence[Any] | None, seed: int, as_json: bool) -> None:
    """Print the dose-response."""
    from jepascore_core import store
    from jepascore_core.sensitivity import dose_response, experiments
    from jepascore_core.sensitivity.facts import dose_facts

    there = experiments.find_corrupted(run, store.list_runs(run.path.parent))
    found = {dose: other for dose, other in there.items() if dose in doses}
    missing = [f"{kind} {severity}" for kind, severity in doses if (kind, severity) not in found]
    if not found:
        raise RunError(
            f"No run of corrupted images stands beside {run.name}; --run scores them, --limit takes fewer images."
        )
    clean, corrupted = experiments.paired_rows(run, found)
    result, left_out = dose_response(clean, corrupted, wanted=wanted, seed=seed)
    facts = dose_facts(result)
    if as_json:
        runs = [{"kind": kind, "severity": severity, "run": other.name} for (kind, severity), other in found.items()]
        print_json(_frame(run, "corruptions", seed, facts, left_out) | {"runs": runs, "missing": missing})
        return
    _tell(facts, left_out)
    rows = [
        {"corruption": f"{row['kind']} {row['severity']}", "method": row["method"], "images": row["n"]}
        | {"change": _told(row, "change"), "in SD": _told(row, "change_sd"), "share that falls": _told(row, "fell")}
        | {"AUROC": _told(row, "auroc"), "lower = corrupted": row["direction"]}
        for row in facts
    ]
    print_rows(rows, False, list(rows[0]) if rows else [])
    if missing:
        typer.echo(f"not scored yet, which --run does: {', '.join(missing)}", err=True)


def _leave_one_out(
    run: Any, classes: Sequence[str] | None, wanted: Sequence[Any] | None, seed: int, as_json: bool
) -> None:
    """Print how each class is told from the others."""
    from jepascore_core.outliers import rows_of
    from jepascore_core.sensitivity import leave_one_out
    from jepascore_core.sensitivity.experiments import MOST_ROWS
    from jepascore_core.sensitivity.facts import class_facts, macro_facts

    rows = rows_of(run, most=MOST_ROWS)
    with progress_bar("Leaving classes out") as advance:
        found = leave_one_out(rows, wanted=wanted, classes=classes, seed=seed, on_step=advance)
    facts, means = class_facts(found), macro_facts(found)
    if as_json:
        frame = _frame(run, "leave-one-out", seed, facts, found.left_out)
        print_json(frame | {"macro": means, "notes": list(found.notes)})
        return
    _tell(facts, found.left_out, found.notes)
    lines = [
        {"class": row["class_name"], "method": row["method"], "images": row["n_out"], **_auroc(row)} for row in facts
    ]
    lines += [{"class": "(mean)", "method": row["method"], "images": "", **_auroc(row)} for row in means]
    print_rows(lines, False, list(lines[0]) if lines else [])


def _label_noise(run: Any, shares: Sequence[float] | None, seed: int, as_json: bool) -> None:
    """Print how well wrong labels are found."""
    from jepascore_core.outliers import rows_of
    from jepascore_core.sensitivity import SHARES, label_noise
    from jepascore_core.sensitivity.experiments import MOST_ROWS
    from jepascore_core.sensitivity.facts import label_facts

    found, left_out = label_noise(rows_of(run, most=MOST_ROWS), shares=shares or SHARES, seed=seed)
    facts = label_facts(found)
    if as_json:
        print_json(_frame(run, "label-noise", seed, facts, left_out))
        return
    _tell([], left_out)
    lines = [
        {
            "share": f"{row['share']:g}",
            "wrong labels": f"{row['wrong']:.1f} of {row['n']}",
            "method": row["method"],
            **_auroc(row),
        }
        for row in facts
    ]
    print_rows(lines, False, list(lines[0]) if lines else [])
    typer.echo("\njepa_score cannot see labels: it is the control, at about 0.5.")


def _layers(run: Any, other: Any, count: int, wanted: Sequence[Any] | None, seed: int, as_json: bool) -> None:
    """Print how each layer tells two sets of images apart."""
    from jepascore_core import store
    from jepascore_core.sensitivity import experiments, over_depth
    from jepascore_core.sensitivity.facts import layer_facts

    runs = [experiments.find_layers(one, store.list_runs(one.path.parent), count) for one in (run, other)]
    missing = [layer for layer in range(1, count + 1) if any(layer not in there for there in runs)]
    rows = experiments.layer_rows(*runs)
    found, left_out = over_depth(rows, paired=experiments.corrupts(run, other), wanted=wanted, seed=seed)
    facts = layer_facts(found)
    if as_json:
        frame = _frame(run, "layers", seed, facts, left_out)
        print_json(frame | {"out": other.name, "layers": count, "missing": missing})
        return
    _tell([], left_out)
    lines = [
        {"layer": row["layer"], "method": row["method"], **_auroc(row)}
        | {"mean, nats a direction": f"{row['mean_in']:.3f}", "of the others": f"{row['mean_out']:.3f}"}
        for row in facts
    ]
    print_rows(lines, False, list(lines[0]) if lines else [])
    if missing:
        typer.echo(f"layers not scored on both, which --run does: {', '.join(map(str, missing))}", err=True)


def _layers_of(run: Any) -> list[str]:
    """Ids of the layers of a run's encoder."""
    from jepascore_core.encoders.load import list_layers
    from jepascore_core.encoders.names import split_layer

    whole, _ = split_layer(str(run.meta["encoder"]["id"]))
    return [identifier for identifier, _ in list_layers(whole)]


def _frame(
    run: Any, experiment: str, seed: int, facts: list[dict[str, Any]], left_out: dict[str, str]
) -> dict[str, Any]:
    """What every answer for programs holds."""
    return {"experiment": experiment, "run": run.name, "seed": seed, "findings": facts, "left_out": left_out}


def _wanted(methods: str | None) -> list[Any] | None:
    """Methods by their names."""
    if methods is None:
        return None
    from jepascore_core.outliers import method_named

    try:
        return [method_named(name.strip()) for name in methods.split(",")]
    except ValueError as error:
        raise RunError(str(error)) from error


def _doses(kinds: str | None, severities: str | None) -> list[Any]:
    """Corruptions that are asked for."""
    from jepascore_core.sensitivity.experiments import all_doses

    named = None if kinds is None else [name.strip() for name in kinds.split(",")]
    return all_doses(named, _numbers("severities", severities, int))


def _numbers(name: str, text: str | None, kind: Any) -> list[Any] | None:
    """Comma-separated numbers of an option."""
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise RunError(f"{name} takes numbers, comma-separated, not {text!r}.") from error


def _tell(facts: list[dict[str, Any]], left_out: dict[str, str], notes: Sequence[str] = ()) -> None:
    """Say on stderr what is left out, and what a reader must know."""
    for title, why in left_out.items():
        typer.echo(f"left out: {one_line(title)}: {one_line(why)}", err=True)
    for words in dict.fromkeys([*notes, *(words for row in facts for words in row["warnings"])]):
        typer.echo(one_line(words), err=True)


def _auroc(row: dict[str, Any]) -> dict[str, str]:
    """AUROC and direction, as a table shows them."""
    return {"AUROC": _told(row, "auroc"), "lower = outlier": row["direction"]}


def _told(row: dict[str, Any], name: str) -> str:
    """A number and its interval."""
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
