"""Commands that go from scores to decisions: ``outliers``."""

from typing import Annotated, Any

import typer

from jepascore_core.commands.app import Json, RunsDir, command
from jepascore_core.commands.printing import one_line, print_json, print_rows, progress_bar

PANEL = "Decide"  # of --help


@command(PANEL, "outliers jepa-tiny-photos-0123456789 jepa-tiny-digits-0123456789 --drop-top 20")
def outliers(
    run_in: Annotated[str, typer.Argument(metavar="RUN_IN", help="Run of in-distribution images, by name or folder.")],
    runs_out: Annotated[list[str], typer.Argument(metavar="RUN_OUT...", help="Runs of other images, same encoder.")],
    drop_top: Annotated[
        float, typer.Option(min=0, max=99.9, help="Tail score: share of the largest singular values to drop, %.")
    ] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of folds, models and resamples.")] = 0,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Tell images of other runs from those of one: JEPA-SCORE, its variants, and rivals on the stored embeddings.

    AUROC, AUPR and FPR at 95 % TPR with 95 % bootstrap intervals; in-distribution images are the positive class, and
    a higher score should mean them. Nothing is judged by a model that was fitted to it.
    """
    from jepascore_core import store
    from jepascore_core.outliers import as_facts, evaluate, rows_of_runs

    opened = [store.open_run(run, runs_dir) for run in (run_in, *runs_out)]
    inside, *others = rows_of_runs(opened[0], opened[1:], seed=seed)
    with progress_bar("Judging") as advance:
        found = evaluate(inside, others, drop_top=drop_top, seed=seed, on_method=advance)
    facts = as_facts(found)
    for title, why in found.left_out.items():
        typer.echo(f"left out: {one_line(title)}: {one_line(why)}", err=True)
    for warning in dict.fromkeys([*found.warnings, *(words for row in facts for words in row["warnings"])]):
        typer.echo(one_line(warning), err=True)
    if as_json:
        print_json(facts)
        return
    for out in others:
        typer.echo(f"\n{one_line(inside.name)} against {one_line(out.name)}: {len(inside)} and {len(out)} images")
        print_rows([_in_words(row) for row in facts if row["out"] == out.name], False, _COLUMNS)
    typer.echo(f"\n{one_line(max((row['rows'] for row in facts), key=len, default=''))}")


_COLUMNS = ["method", "AUROC", "AUPR", "FPR95", "lower score = outlier", "p against jepa_score", "seconds"]


def _in_words(row: dict[str, Any]) -> dict[str, str]:
    """One line of the table."""
    interval = {name: f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})" for name in
                ("auroc", "aupr", "fpr95")}  # fmt: skip
    p = row["p"]
    return {
        "method": row["method"],
        "AUROC": interval["auroc"],
        "AUPR": interval["aupr"],
        "FPR95": interval["fpr95"],
        "lower score = outlier": row["direction"],
        "p against jepa_score": "" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}",
        "seconds": f"{row['fit_s'] + row['judge_s']:.2f}",
    }
