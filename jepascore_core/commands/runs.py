"""Commands that look at runs: ``runs``, ``show``, ``compare`` and ``tags``."""

from typing import Annotated, Any

import typer

from jepascore_core.commands.app import Classes, Json, RunName, RunsDir, Score, command
from jepascore_core.commands.printing import one_line, print_json, print_rows

PANEL = "Look at runs"  # of --help


@command(PANEL, "runs --json")
def runs(as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """List the runs, newest first."""
    from jepascore_core.store import list_runs, runs_home

    listed = [_run_facts(run) for run in list_runs(runs_home(runs_dir))]
    print_rows(listed, as_json, ["name", "state", "done", "failed", "planned", "problem"])


@command(PANEL, "show jepa-tiny-photos-0123456789 --n 3")
def show(
    run: RunName,
    n: Annotated[int, typer.Option("--n", min=1, help="Least and most likely images of each class.")] = 5,
    score_name: Score = "raw",
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show one run: counts, the least and most likely images of each class, what failed."""
    from jepascore_core import store
    from jepascore_core.naming import origin
    from jepascore_core.store.runs import about_dataset

    opened, rule = store.open_run(run, runs_dir), store.ScoreRule(score_name)
    classes = store.class_counts(opened, rule=rule).to_dict("records")
    for row in classes:
        for which in ("least", "most"):
            chosen = store.extremes(opened, n, which=which, class_name=row["class_name"], rule=rule)
            row[which] = chosen[["key", "score"]].to_dict("records")
    failures = store.failures(opened)[["key", "error"]].to_dict("records")
    path, imported = opened.meta.get("jacobian_path"), opened.meta.get("imported")
    facts = _run_facts(opened) | {"score": score_name, "jacobian_path": path, "classes": classes, "failures": failures}
    facts |= {"imported": imported} if imported else {}
    if as_json:
        print_json(facts)
        return
    typer.echo(
        f"{opened.label}: {facts['done']} of {facts['planned']} scored, {facts['failed']} failed; {score_name} score"
    )
    if words := origin(opened):
        typer.echo(one_line(words))
    if about := about_dataset(opened.meta) or opened.warning:
        typer.echo(one_line(about))
    if path:
        typer.echo(f"Jacobians by the {path} path, on {opened.meta.get('device')}, in {_precision(opened)}")
    for row in classes:
        median = "–" if row["median"] != row["median"] else f"{row['median']:.2f}"
        typer.echo(f"\n{row['class_name'] or 'all images'}: {row['n']} images, median {median} nats")
        for which in ("least", "most"):
            for image in row[which]:
                typer.echo(f"  {which:>5}  {image['score']:>9.2f}  {one_line(image['key'])}")
    for failure in failures:
        typer.echo(f"failed  {one_line(failure['key'])}: {one_line(failure['error'])}")


@command(PANEL, "compare jepa-tiny-photos-0123456789 jepa-tiny-untrained-photos-0123456789 --n 10")
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help="Runs of one dataset, by name or folder.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Least and most likely images of each class.")] = 5,
    classes: Classes = None,
    score_name: Score = "raw",
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Compare encoders on the images that they have all scored, two by two.

    Rank correlations with 95 % intervals, over all images and within classes; how many of the n least and n most
    likely images of each class are the same, against chance; the largest disagreements (`--json`).
    """
    from jepascore_core import store
    from jepascore_core.comparison import compared

    opened = [store.open_run(run, runs_dir) for run in runs]
    common = store.common_images(opened, store.ScoreRule(score_name))
    facts = compared(opened, common.of_classes(store.split_classes(classes) or ()), n)
    if as_json:
        print_json({"score": score_name, **facts})
        return
    typer.echo(f"{facts['images']} images in common; {score_name} score")
    for pair in facts["pairs"]:
        _print_pair(pair, n)


@command(PANEL, "tags jepa-tiny-photos-0123456789 --merge copies/jepa-tiny-photos-0123456789")
def tags(
    run: RunName,
    merge: Annotated[
        str | None, typer.Option(help="Run of the same images, by name or folder, to take tags from.")
    ] = None,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List the tags of a run: the named sets of images that are kept in its folder.

    `--merge` first adds those of another run of the same images, such as a copy of the folder that a colleague tagged.
    """
    from dataclasses import asdict

    from jepascore_core import store

    opened = store.open_run(run, runs_dir)
    if merge is not None:
        added = store.merge_tags(opened, store.open_run(merge, runs_dir))
        typer.echo(f"{added} new", err=True)
    for problem in store.damaged_tags(opened).values():
        typer.echo(one_line(problem), err=True)
    listed = [{**asdict(tag), "images": len(tag.keys)} for tag in store.list_tags(opened)]
    print_rows(listed, as_json, ["name", "images", "created"])


def _print_pair(pair: dict[str, Any], n: int) -> None:
    """Print how far two encoders agree."""
    from jepascore_core.comparison import interval

    typer.echo(f"\n{pair['first']} × {pair['second']}")
    for name in ("spearman", "kendall"):
        typer.echo(f"  {name:<9} {interval(pair[name])}, within classes {interval(pair[f'{name}_in_class'])}")
    ends = pair["shared"]
    typer.echo(
        f"  of the {n} least and the {n} most likely images of each class they share {ends['least']:.5g} and "
        f"{ends['most']:.5g} of {ends['n']:.0f}, by chance {ends['chance']:.3g}; "
        f"beyond chance {interval(ends['excess'])}"
    )
    rows = [
        {"class": row["class_name"] or "all images", "images": row["images"], "n": row["n"]}
        | {"spearman": interval({key: row[f"spearman{key and '_' + key}"] for key in ("", "low", "high")})}
        | {name: f"{row[name]:.3g}" for name in ("chance", "least", "p_least", "most", "p_most")}
        for row in pair["classes"]
    ]
    if rows:
        typer.echo()
        print_rows(rows, False, list(rows[0]))


def _precision(run: Any) -> str:
    """In which arithmetic a run was computed, in words."""
    tried = run.meta.get("precisions") or [run.meta.get("precision", "float32")]
    again = run.progress().rescored
    return " to ".join(dict.fromkeys([tried[0], tried[-1]])) + (f" ({again} scored again)" if again else "")


def _run_facts(run: Any) -> dict[str, Any]:
    """What a list of runs says of one."""
    facts = {"name": run.name, "label": run.label, "path": str(run.path), "problem": run.problem or run.warning}
    progress = run.progress()
    meta = run.meta or {}
    return facts | {
        "state": progress.state,
        "done": progress.done,
        "failed": progress.failed,
        "planned": progress.planned,
        "encoder": meta.get("encoder", {}).get("id"),
        "dataset": meta.get("dataset", {}).get("id"),
        "created": meta.get("created"),
    }
