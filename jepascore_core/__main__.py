"""Command line: ``python -m jepascore_core``.

Results go to stdout, progress and errors to stderr, so that a shell can use the one and a person read the other.
Heavy modules are imported by the command that needs them: ``--help`` and ``runs`` do not wait for torch.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from jepascore_core.errors import JepaScoreError, RunError

# Waiting threads of torch spin for 0.1 ms: longer burns the cores of other work, not at all is late for each product.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

app = typer.Typer(
    name="jepascore_core",
    help="Which images a pretrained encoder finds likely, which it finds strange, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

RunsDir = Annotated[
    Path | None, typer.Option(help="Folder of runs. Default: $JEPASCORE_HOME/runs, else ~/.jepascore/runs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RunNames = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Names of runs, as `runs` lists them, or folders.")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, as `runs` lists it, or its folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Score = Annotated[str, typer.Option("--score", help="raw (eq. 5), sphere, corrected, or listing1.")]
Eps = Annotated[float, typer.Option(help="Least singular value that counts.")]
Job = Annotated[Path | None, typer.Option("--job", hidden=True)]

EncoderId = Annotated[str, typer.Option(help="Encoder id; `encoders` lists presets.")]
DatasetId = Annotated[str, typer.Option(help="Dataset id; `datasets` lists known ones. A path will do.")]
PerClass = Annotated[int | None, typer.Option(help="Most images of each class.")]
Limit = Annotated[int | None, typer.Option(help="Most images in total, classes in turn.")]
Seed = Annotated[int, typer.Option(help="Seed of the sample and of the views.")]
Classes = Annotated[str | None, typer.Option(help="Class names to keep, comma-separated.")]
Views = Annotated[int, typer.Option(help="Augmented views T of eq. (4); 1 is eq. (5).")]
InputSize = Annotated[int | None, typer.Option(help="Side of the encoder's input in pixels.")]
BatchSize = Annotated[int | None, typer.Option(help="Images scored together; chosen by itself.")]
Precision = Annotated[str, typer.Option(help="auto, float16, tf32, float32 or float64.")]
ToleranceNats = Annotated[
    float | None, typer.Option(help="Error bar, nats, beyond which an image is scored again more exactly.")
]
MemoryShare = Annotated[float, typer.Option(help="Share of the device's free memory to take.")]
RandomWeights = Annotated[bool, typer.Option(help="Do not load the weights: a control.")]


def example(command: str) -> str:
    """Help text with an example of the command."""
    return f"Example: `python -m jepascore_core {command}`"


@app.command(epilog=example("score --encoder demo:jepa-tiny --dataset folder:photos --per-class 100"))
def score(
    encoder: EncoderId,
    dataset: DatasetId,
    per_class: PerClass = None,
    limit: Limit = None,
    seed: Seed = 0,
    classes: Classes = None,
    device: Device = "auto",
    views: Views = 1,
    input_size: InputSize = None,
    batch_size: BatchSize = None,
    precision: Precision = "auto",
    tolerance: ToleranceNats = None,
    memory_share: MemoryShare = 0.8,
    random_weights: RandomWeights = False,
    runs_dir: RunsDir = None,
    job: Job = None,
) -> None:
    """Score a dataset under an encoder. Asked again, the same request resumes or returns at once.

    The last line of stdout is the run's folder.
    """
    request = _request(
        encoder, dataset, classes, random_weights, per_class=per_class, limit=limit, seed=seed, device=device,
        views=views, input_size=input_size, precision=precision, tolerance=tolerance,
        batch_size=batch_size, memory_share=memory_share,
    )  # fmt: skip
    _score_all([request], runs_dir, job)


@app.command(epilog=example("cost --encoder demo:jepa-tiny --dataset folder:photos --per-class 100"))
def cost(
    encoder: EncoderId,
    dataset: DatasetId,
    per_class: PerClass = None,
    limit: Limit = None,
    seed: Seed = 0,
    classes: Classes = None,
    device: Device = "auto",
    views: Views = 1,
    input_size: InputSize = None,
    batch_size: BatchSize = None,
    precision: Precision = "auto",
    tolerance: ToleranceNats = None,
    memory_share: MemoryShare = 0.8,
    random_weights: RandomWeights = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
    record: Annotated[Path | None, typer.Option("--record", hidden=True)] = None,
) -> None:
    """Measure for a few seconds how long `score` would take with the same options.

    Nothing is downloaded: random weights stand for published ones, and noise for a dataset that is not at hand.
    """
    from jepascore_core.processes import age_s, die_first
    from jepascore_core.store.costs import recorded

    request = _request(
        encoder, dataset, classes, random_weights, per_class=per_class, limit=limit, seed=seed, device=device,
        views=views, input_size=input_size, precision=precision, tolerance=tolerance,
        batch_size=batch_size, memory_share=memory_share,
    )  # fmt: skip
    if record is not None:
        die_first()  # nobody typed this command: a measurement must not cost somebody else's work
    with recorded(record) as keep:
        from jepascore_core.runner.cost import measure_cost

        measured = measure_cost(request, start_s=age_s())
        keep(measured)
    _print_cost(measured, as_json)


@app.command(epilog=example("demo"))
def demo(device: Device = "auto", runs_dir: RunsDir = None, job: Job = None) -> None:
    """Score the demo datasets with the demo encoder, and with its untrained twin as a control; needs no network."""
    from jepascore_core.jobs import demo_requests

    _score_all(demo_requests(device=device), runs_dir, job)


@app.command(epilog=example("runs --json"))
def runs(as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """List the runs, newest first."""
    from jepascore_core.store import list_runs, runs_home

    listed = [_run_facts(run) for run in list_runs(runs_home(runs_dir))]
    _print(listed, as_json, ["name", "state", "done", "failed", "planned", "problem"])


@app.command(epilog=example("show jepa-tiny-photos-0123456789 --n 3"))
def show(
    run: RunName,
    n: Annotated[int, typer.Option("--n", min=1, help="Least and most likely images of each class.")] = 5,
    score_name: Score = "raw",
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show one run: counts, the least and most likely images of each class, what failed."""
    from jepascore_core import store

    opened, rule = store.open_run(run, runs_dir), store.ScoreRule(score_name)
    classes = store.class_counts(opened, rule=rule).to_dict("records")
    for row in classes:
        for which in ("least", "most"):
            chosen = store.extremes(opened, n, which=which, class_name=row["class_name"], rule=rule)
            row[which] = chosen[["key", "score"]].to_dict("records")
    failures = store.failures(opened)[["key", "error"]].to_dict("records")
    path = opened.meta.get("jacobian_path")
    facts = _run_facts(opened) | {"score": score_name, "jacobian_path": path, "classes": classes, "failures": failures}
    if as_json:
        _print_json(facts)
        return
    typer.echo(
        f"{opened.label}: {facts['done']} of {facts['planned']} scored, {facts['failed']} failed; {score_name} score"
    )
    if path:
        typer.echo(f"Jacobians by the {path} path, on {opened.meta.get('device')}, in {_precision(opened)}")
    for row in classes:
        median = "–" if row["median"] != row["median"] else f"{row['median']:.2f}"
        typer.echo(f"\n{row['class_name'] or 'all images'}: {row['n']} images, median {median} nats")
        for which in ("least", "most"):
            for image in row[which]:
                typer.echo(f"  {which:>5}  {image['score']:>9.2f}  {_one_line(image['key'])}")
    for failure in failures:
        typer.echo(f"failed  {_one_line(failure['key'])}: {_one_line(failure['error'])}")


@app.command(epilog=example("compare jepa-tiny-photos-0123456789 jepa-tiny-untrained-photos-0123456789 --n 10"))
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
        _print_json({"score": score_name, **facts})
        return
    typer.echo(f"{facts['images']} images in common; {score_name} score")
    for pair in facts["pairs"]:
        _print_pair(pair, n)


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
        _print(rows, False, list(rows[0]))


@app.command(epilog=example("export RUN --to odd.zip --as zip-images --tag odd"))
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
        with _progress_bar("export") as advance, stop_on_signals() as stop:
            packed = packs.pack(
                chosen, made.name, to, rule=rule, on_progress=lambda done, total: advance(done, total, ""), stop=stop
            )
    missing = f", {packed.missing} missing: see missing.txt" if packed.missing else ""
    typer.echo(f"{packed.images} {'images' if made.layout else 'rows'}{missing}", err=True)
    typer.echo(packed.path)


@app.command(epilog=example("tags jepa-tiny-photos-0123456789 --merge copies/jepa-tiny-photos-0123456789"))
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
        typer.echo(_one_line(problem), err=True)
    listed = [{**asdict(tag), "images": len(tag.keys)} for tag in store.list_tags(opened)]
    _print(listed, as_json, ["name", "images", "created"])


@app.command(epilog=example("report jepa-tiny-photos-0123456789 jepa-tiny-digits-0123456789 --out report.html"))
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


@app.command(epilog=example("extremes jepa-tiny-photos-0123456789 --classes cat,rocket --random --out figure.pdf"))
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


@app.command("map", epilog=example("map jepa-tiny-photos-0123456789 --projection umap --to map.csv"))
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


@app.command(epilog=example("encoders --json"))
def encoders(as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """List the preset encoders; any other timm or open_clip name works too."""
    from dataclasses import asdict

    from jepascore_core.encoders.presets import PRESETS

    rows = [asdict(spec) for spec in PRESETS]
    _print(rows, as_json, ["id", "name", "embedding_dim", "pooling", "null_dim", "licence", "paper"])


@app.command(epilog=example("datasets"))
def datasets(as_json: Json = False, runs_dir: RunsDir = None) -> None:
    """List the known datasets; folder:, parquet:, hf: and torchvision: reach any other."""
    from dataclasses import asdict

    from jepascore_core.datasets import DATASETS

    rows = [asdict(known) for known in DATASETS]
    _print(rows, as_json, list(rows[0]))


@app.command(epilog=example("train --out my-encoder.safetensors --objective vicreg --steps 500"))
def train(
    out: Annotated[Path, typer.Option(help="File of the trained encoder, ending in .safetensors.")],
    dataset: Annotated[str, typer.Option(help="Dataset id. demo:photos means its training crops.")] = "demo:photos",
    objective: Annotated[str, typer.Option(help="sigreg or vicreg.")] = "sigreg",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=2, help="Images a step.")] = 128,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 4e-3,
    weight: Annotated[float, typer.Option(help="Share of the anti-collapse term, 0 to 1.")] = 0.5,
    embedding_dim: Annotated[int, typer.Option(min=2, help="D.")] = 16,
    input_size: Annotated[int, typer.Option(min=16, help="Side of the input in pixels.")] = 48,
    limit: Annotated[int, typer.Option(min=2, help="Most images taken from the dataset.")] = 20_000,
    hold_out_every: Annotated[int, typer.Option(min=0, help="n leaves out every n-th class by name.")] = 0,
    network: Annotated[str, typer.Option(help="convnet or vit.")] = "convnet",
    min_area: Annotated[float, typer.Option(help="Least share of the image in a view.")] = 0.6,
    jitter: Annotated[float, typer.Option(help="Largest change of a view's colours, as a share.")] = 0.15,
    local_views: Annotated[int, typer.Option(min=0, help="How many more views of half the side, of a part.")] = 0,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = 0.01,
    precision: Annotated[str, typer.Option(help="Of the network's products: float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(help="Seed of weights, batches, views and slices.")] = 0,
    device: Device = "auto",
    runs_dir: RunsDir = None,
) -> None:
    """Train a small JEPA on a dataset and write its weights. Asked again after a stop, it resumes.

    The last line of stdout is the trained encoder's id.
    """
    from jepascore_core.processes import stop_on_signals
    from jepascore_core.trainer import TrainConfig, train

    config = TrainConfig(
        objective=objective,
        dataset=dataset,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        weight=weight,
        embedding_dim=embedding_dim,
        input_size=input_size,
        limit=limit,
        hold_out_every=hold_out_every,
        network=network,
        min_area=min_area,
        jitter=jitter,
        local_views=local_views,
        weight_decay=weight_decay,
        precision=precision,
        seed=seed,
        device=device,
    )
    with _progress_bar("training") as advance, stop_on_signals() as stop:
        report = train(
            config,
            out=out,
            stop=stop,
            on_step=lambda record: advance(record.step + 1, steps, f"loss {record.loss:.4f}"),
        )
    if not report.done:
        raise RunError("Stopped; the same command resumes from the last checkpoint.")
    typer.echo(f"trained in {report.elapsed_s:.0f} s on {report.images} images", err=True)
    typer.echo(f"file:{out}")


@app.command(epilog=example("theory --dims 2,8,32 --samples 1000,10000 --seeds 3 --json"))
def theory(
    dims: Annotated[str, typer.Option(help="Dimensions of the data, comma-separated.")] = "2,8,32",
    samples: Annotated[str, typer.Option(help="Numbers of training samples, comma-separated.")] = "1000,10000",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds: of mixture, samples, weights and batches.")] = 3,
    objective: Annotated[str, typer.Option(help="uniformity, sigreg, vicreg or moments.")] = "uniformity",
    broken: Annotated[
        str, typer.Option("--break", help="Refute it: no_anticollapse, few_samples or collapsed.")
    ] = "none",
    scale_ratio: Annotated[float, typer.Option(help="Widest component of the mixture over the narrowest.")] = 2.0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 600,
    as_json: Json = False,
    runs_dir: RunsDir = None,
    job: Job = None,
) -> None:
    """Train small encoders on Gaussian mixtures and correlate their scores with the true log-density (Figure 2).

    `pearson` and `spearman` are those of the raw score, eq. (5), on held-out points. The sphere and corrected scores,
    the untrained network and a single fitted Gaussian stand beside it. Each finished experiment is kept; asked again,
    only the rest is run.
    """
    from jepascore_core.jobs import JobFile
    from jepascore_core.processes import stop_on_signals
    from jepascore_core.theory.grid import grid

    options = {"objective": objective, "broken": broken, "scale_ratio": scale_ratio, "steps": steps}
    configs = grid(_whole_numbers("dims", dims), _whole_numbers("samples", samples), seeds, **options)
    with JobFile.attached(job) as stages, stop_on_signals() as stop:
        records = _run_theory(configs, runs_dir, stages, stop)
        if len(records) < len(configs):
            stages.stage("cancelled")
            raise RunError(f"Stopped; {len(records)} of {len(configs)} are kept, and the same command does the rest.")
    columns = ["dim", "samples", "seed", "pearson", "spearman", "sphere_pearson", "corrected_pearson"]
    _print(records, as_json, [*columns, "untrained_raw_pearson", "gaussian_pearson"])


def _run_theory(configs: list[Any], runs_dir: Path | None, stages: Any, stop: Any) -> list[dict[str, Any]]:
    """Run the experiments that are not kept yet, with a progress bar; a job takes its turn on the processor first."""
    from contextlib import ExitStack

    import torch

    from jepascore_core.locks import device_lock, hold
    from jepascore_core.store import runs_home
    from jepascore_core.theory.grid import kept, run_grid

    home, planned = runs_home(runs_dir), len(configs)
    records: list[dict[str, Any]] = []
    left_s = [0.0, 0]  # seconds of the experiments made here, and how many they were
    found = {config for config in configs if kept(config, home)}

    def wait(holder: str) -> None:
        stages.stage("waiting")
        stages.progress(len(found), planned, f"waiting for {holder or 'another job'}, which holds the processor")

    def told(config: Any) -> str:
        return f"d = {config.dim}, {config.samples} samples, seed {config.seed}"

    def show(config: Any, step: Any) -> None:
        if step.step == 0:
            eta_s = left_s[0] / left_s[1] * (planned - len(records)) if left_s[1] else None
            stages.progress(len(records), planned, told(config), eta_s)
        done = len(records) * config.steps + step.step + 1
        advance(done, planned * config.steps, f"{told(config)}, loss {step.loss:.3f}")

    def keep(record: dict[str, Any]) -> None:
        records.append(record)
        if configs[len(records) - 1] not in found:
            left_s[0], left_s[1] = left_s[0] + record["elapsed_s"], left_s[1] + 1

    with _progress_bar("theory") as advance, ExitStack() as turn:
        if stages.attached_to_file:
            torch.set_num_threads(1)  # on nets this small more only wait for each other; one core serves the pages
            turn.enter_context(hold(device_lock("cpu"), holder="the theory lab", waiting=wait, stop=stop))
        stages.stage("training")
        run_grid(configs, home, on_step=show, on_cell=keep, stop=stop)
    stages.progress(len(records), planned, "")
    return records


def _whole_numbers(name: str, text: str) -> list[int]:
    """Comma-separated whole numbers of an option."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RunError(f"{name} takes whole numbers, comma-separated, such as 2,8,32, not {text!r}.") from error


def _request(encoder: str, dataset: str, classes: str | None, random_weights: bool, **options: Any) -> Any:
    """The request that options of the command line make."""
    from jepascore_core.store.request import RunRequest, split_classes

    return RunRequest(encoder, dataset, classes=split_classes(classes), pretrained=not random_weights, **options)


def _print_cost(measured: Any, as_json: bool) -> None:
    """Print what a run would take."""
    from dataclasses import asdict
    from datetime import timedelta

    if as_json:
        _print_json(asdict(measured) | {"seconds": measured.seconds})
        return
    start, thousand = (timedelta(seconds=round(s)) for s in (measured.start_s, 1000 / measured.images_per_s))
    known = measured.seconds is not None
    typer.echo(f"images         {measured.images if known else 'unknown before the download'}")
    typer.echo(f"images/s       {measured.images_per_s:.3g} on {measured.device}")
    if known:
        typer.echo(f"expected time  {timedelta(seconds=round(measured.seconds))}, {start} of it before the first image")
    else:
        typer.echo(f"expected time  {start} before the first image, then {thousand} for every 1000")


def _score_all(requests: list[Any], runs_dir: Path | None, job: Path | None) -> None:
    """Score each request in turn, with a progress bar; print each run's folder."""
    from jepascore_core.jobs import JobFile
    from jepascore_core.processes import stop_on_signals
    from jepascore_core.runner import score_dataset

    with JobFile.attached(job) as stages, stop_on_signals() as stop:
        for request in requests:
            with _progress_bar(f"{request.encoder_id} · {request.dataset_id}") as advance:
                run = score_dataset(
                    request,
                    runs_dir=runs_dir,
                    stop=stop,
                    on_stage=stages.stage,
                    on_progress=partial(_show_progress, advance),
                )
            if stop.is_set():
                raise RunError("Cancelled; what is scored is kept, and the same command resumes.")
            typer.echo(run.path)


def _show_progress(advance: Callable[[int, int, str], None], progress: Any) -> None:
    """Move the bar to where a run is."""
    note = progress.message or (f"{progress.failed} failed" if progress.failed else "")
    advance(progress.done + progress.failed, progress.planned, note)


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; yields ``advance(done, total, note)``."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as progress:
        task = progress.add_task(escape(title), total=None, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=escape(note))


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


def _print(rows: list[dict[str, Any]], as_json: bool, columns: list[str]) -> None:
    """Print rows as JSON, or the columns of them as an aligned table."""
    if as_json:
        _print_json(rows)
        return
    cells = [columns, *([_one_line(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_json(value: Any) -> None:
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


def _one_line(value: Any) -> str:
    """Text that cannot break a line or move a terminal's cursor."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def main() -> None:
    """Run the command line; an error that we raise on purpose is one sentence on stderr."""
    try:
        app()
    except JepaScoreError as error:
        typer.echo(_one_line(error), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("Interrupted; what is scored is kept, and the same command resumes.", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
