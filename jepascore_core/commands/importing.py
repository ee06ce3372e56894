"""The command that brings results of others in: ``import``."""

from pathlib import Path
from typing import Annotated

import typer

from jepascore_core.commands.app import Json, RunsDir, command
from jepascore_core.commands.printing import print_json
from jepascore_core.files import expanded

PANEL = "Bring results in"  # of --help


@command(PANEL, "import spectra.npz --encoder timm:vit_small_patch14_dinov2.lvd142m --dataset CIFAR-10", name="import")
def import_results(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".npz, .npy, .csv, .jsonl or .parquet.")],
    encoder: Annotated[str, typer.Option(help="Name of the encoder; a preset's id brings its facts along.")],
    dataset: Annotated[str, typer.Option(help="Name of the dataset; runs of one name compare by their keys.")],
    direction: Annotated[
        str, typer.Option(help="in: higher given scores are in-distribution; out: outliers, and their sign is turned.")
    ] = "in",
    score_column: Annotated[
        str | None, typer.Option(help="Column of the scores, where its name does not tell.")
    ] = None,
    null_dim: Annotated[
        int | None,
        typer.Option(help="Structurally null directions that eq. (5) leaves out. Default: the preset's or 0."),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="The singular values are given as log σ.")] = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Import spectra or scores that others computed, as a run. The last line of stdout is its name.

    Spectra are scored by eq. (5). What the file holds is told by the names of its columns; the README lists them.
    """
    from jepascore_core.importing import ImportRequest, import_file
    from jepascore_core.importing.telling import facts
    from jepascore_core.naming import printable

    request = ImportRequest(expanded(file), encoder, dataset, direction, score_column, null_dim, log)
    run, results = import_file(request, runs_dir)
    told = run.meta["imported"]
    if as_json:
        done = run.progress()
        print_json({"name": run.name, "path": str(run.path), "new": results is not None, "done": done.done}
                   | {"failed": done.failed, "imported": told})  # fmt: skip
        return
    lines = ["This file was imported before, under the same names."] if results is None else facts(results)
    if direction == "out" and told["score"] == "spectra" and results is None:
        lines.append("The direction has no effect on spectra.")
    for line in lines:
        typer.echo(printable(line), err=True)
    typer.echo(run.name)
