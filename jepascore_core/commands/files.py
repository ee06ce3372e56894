"""Commands that write files from runs: ``export``, ``report``, ``extremes`` and ``map``."""

from pathlib import Path
from typing import Annotated

import typer

from jepascore_core.commands.app import Eps, RunNames, RunsDir, Score, command
from jepascore_core.commands.printing import progress_bar

PANEL = "Write files"  # of --help


@command(PANEL, "export RUN --to odd.zip --as zip-images --tag odd")
def export(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs, or their folders.")],
    to: Annotated[Path, typer.Option(help="File to write; .csv, .parquet, .txt (keys only) or .zip.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="csv, parquet, txt, zip-images, zip-thumbnails, huggingface or fiftyone; the last two make a folder "
            "where the name does not end in .zip. Default: by the ending, images for .zip.",
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only the images that have this tag.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Only the images of this list: a key a line, as in .txt.")] = None,
    score_name: Score = "raw",
    runs_dir: RunsDir = None,
) -> None:
    """Write rows or images of one or several runs to a file. The last line of stdout is the file.

    Images come from their dataset, where that is on this machine; those that cannot be had are listed in `missing.txt`.
    `--score` decides what the column `jepa_score` holds.
    """
    from jepascore_core import packs, store
    from jepascore_core.processes import stop_on_signals

    chosen = packs.select([store.open_run(run, runs_dir) for run in runs], tag=tag, key_file=keys)
    made, rule = packs.kind_of(kind, to), store.ScoreRule(score_name)
    if made.layout is None:
        packed = packs.pack(chosen, made.name, to, rule=rule)
    else:
        with progress_bar("export") as advance, stop_on_signals() as stop:
            packed = packs.pack(
                chosen, made.name, to, rule=rule, on_progress=lambda done, total: advance(done, total, ""), stop=stop
            )
    missing = f", {packed.missing} missing: see missing.txt" if packed.missing else ""
    typer.echo(f"{packed.images} {'images' if made.layout else 'rows'}{missing}", err=True)
    typer.echo(packed.path)


@command(PANEL, "report jepa-tiny-photos-0123456789 jepa-tiny-digits-0123456789 --out report.html")
def report(
    runs: RunNames,
    out: Annotated[Path, typer.Option(help="File to write, ending in .html.")] = Path("report.html"),
    score_name: Score = "raw",
    eps: Eps = 1e-6,
    classes: Annotated[
        str | None, typer.Option(help="Classes whose extremes are shown, comma-separated. Default: the largest.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Least and most likely images of each strip.")] = 6,
    runs_dir: RunsDir = None,
) -> None:
    """Write one HTML file on some runs: provenance, distributions, separation, extremes, spectra, failures.

    It holds everything that it shows and opens without a network. The last line of stdout is the file.
    """
    from jepascore_core import store
    from jepascore_core.report import write_report

    opened, rule = [store.open_run(run, runs_dir) for run in runs], store.ScoreRule(score_name, eps)
    size = write_report(opened, out, rule=rule, classes=store.split_classes(classes), n=n)
    typer.echo(f"{size / 1e6:.1f} MB", err=True)
    typer.echo(out)


@command(PANEL, "extremes jepa-tiny-photos-0123456789 --classes cat,rocket --random --out figure.pdf")
def extremes(
    runs: RunNames,
    out: Annotated[Path, typer.Option(help="File to write: .pdf, .svg, or .png (300 dpi).")],
    classes: Annotated[
        str | None, typer.Option(help="Classes, comma-separated. Default: one row for all images of each run.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Least and most likely images of each row.")] = 6,
    random: Annotated[bool, typer.Option("--random", help="Random images of each class beneath.")] = False,
    width: Annotated[float, typer.Option(help="Width of the figure in mm.")] = 180.0,
    scores: Annotated[bool, typer.Option(help="Write the score beneath each image.")] = True,
    score_name: Score = "raw",
    eps: Eps = 1e-6,
    runs_dir: RunsDir = None,
) -> None:
    """Draw the least and most likely images of classes for print, a row for each run (Figures 1, 5 and 6).

    The last line of stdout is the file.
    """
    from jepascore_core import paper_layout, store
    from jepascore_core.paper_figure import write_figure

    opened, rule = [store.open_run(run, runs_dir) for run in runs], store.ScoreRule(score_name, eps)
    rows = paper_layout.paper_rows(opened, store.split_classes(classes) or (), n=n, rule=rule, random=random)
    size = write_figure(rows, out, width_mm=width, show_scores=scores, about=paper_layout.describe(opened, rule))
    typer.echo(size, err=True)
    typer.echo(out)


@command(PANEL, "map jepa-tiny-photos-0123456789 --projection umap --to map.csv", name="map")
def map_runs(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs of one encoder, or folders.")],
    projection: Annotated[str, typer.Option(help="pca or umap.")] = "umap",
    neighbours: Annotated[int, typer.Option(help="Neighbours that UMAP keeps near.")] = 15,
    seed: Annotated[int, typer.Option(help="Of UMAP, and of the images on which the map is judged.")] = 0,
    to: Annotated[Path | None, typer.Option(help="File to write: .csv or .parquet.")] = None,
    runs_dir: RunsDir = None,
    record: Annotated[Path | None, typer.Option("--record", hidden=True)] = None,
) -> None:
    """Project the embeddings of runs of one encoder to two dimensions, as the page Map does."""
    from jepascore_core.processes import die_first
    from jepascore_core.store.maps import MapRequest, recorded, write_map

    request = MapRequest(tuple(runs), projection, neighbours, seed)
    if record is not None:
        die_first()  # nobody typed this command: a map must not cost somebody else's work
    with recorded(record):
        from jepascore_core.mapping import export_map, make_map

        found = make_map(request, runs_dir)
        if record is not None:
            write_map(record, found)
    held = "" if found.share is None else f", {100 * sum(found.share):.1f} % of the variance"
    trust = "" if found.trust is None else f", trustworthiness {found.trust:.3f}"
    typer.echo(f"{len(found.index)} images in {found.elapsed_s:.1f} s{held}{trust}", err=to is not None)
    if to is not None:
        export_map(found, to, runs_dir)
        typer.echo(to)
