"""Commands that score: ``score``, ``cost`` and ``demo``."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from jepascore_core.commands.app import (
    Address,
    BatchSize,
    Classes,
    DatasetId,
    Device,
    EncoderId,
    Engine,
    InputSize,
    Job,
    Json,
    Layer,
    Limit,
    MemoryShare,
    PerClass,
    Precision,
    RandomWeights,
    RunsDir,
    Seed,
    ToleranceNats,
    Views,
    Workers,
    command,
)
from jepascore_core.commands.printing import one_line, print_json, progress_bar
from jepascore_core.errors import RunError

PANEL = "Score"  # of --help


@command(PANEL, "score --encoder demo:jepa-tiny --dataset folder:photos --per-class 100")
def score(
    encoder: EncoderId,
    dataset: DatasetId,
    layer: Layer = None,
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
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = None,
    runs_dir: RunsDir = None,
    job: Job = None,
) -> None:
    """Score a dataset under an encoder. Asked again, the same request resumes or returns at once.

    The last line of stdout is the run's folder.
    """
    request = _request(
        encoder, layer, dataset, classes, random_weights, per_class=per_class, limit=limit, seed=seed, device=device,
        views=views, input_size=input_size, precision=precision, tolerance=tolerance,
        batch_size=batch_size, memory_share=memory_share, engine=engine, address=address, workers=workers,
    )  # fmt: skip
    score_all([request], runs_dir, job)


@command(PANEL, "cost --encoder demo:jepa-tiny --dataset folder:photos --per-class 100")
def cost(
    encoder: EncoderId,
    dataset: DatasetId,
    layer: Layer = None,
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
        encoder, layer, dataset, classes, random_weights, per_class=per_class, limit=limit, seed=seed, device=device,
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


@command(PANEL, "demo")
def demo(device: Device = "auto", runs_dir: RunsDir = None, job: Job = None) -> None:
    """Score the demo datasets with the demo encoder, and with its untrained twin as a control; needs no network."""
    from jepascore_core.jobs import demo_requests

    score_all(demo_requests(device=device), runs_dir, job)


def _request(
    encoder: str, layer: int | None, dataset: str, classes: str | None, random_weights: bool, **options: Any
) -> Any:
    """The request that options of the command line make."""
    from jepascore_core.encoders.names import with_layer
    from jepascore_core.store.request import RunRequest, split_classes

    return RunRequest(
        with_layer(encoder, layer), dataset, classes=split_classes(classes), pretrained=not random_weights, **options
    )


def _print_cost(measured: Any, as_json: bool) -> None:
    """Print what a run would take."""
    from dataclasses import asdict
    from datetime import timedelta

    if as_json:
        print_json(asdict(measured) | {"seconds": measured.seconds})
        return
    start, thousand = (timedelta(seconds=round(s)) for s in (measured.start_s, 1000 / measured.images_per_s))
    known = measured.seconds is not None
    typer.echo(f"images         {measured.images if known else 'unknown before the download'}")
    typer.echo(f"images/s       {measured.images_per_s:.3g} on {measured.device}")
    if known:
        typer.echo(f"expected time  {timedelta(seconds=round(measured.seconds))}, {start} of it before the first image")
    else:
        typer.echo(f"expected time  {start} before the first image, then {thousand} for every 1000")


def score_all(requests: Sequence[Any], runs_dir: Path | None, job: Path | None, *, quiet: bool = False) -> None:
    """Score each request in turn, with a progress bar; print each run's folder unless quiet."""
    from jepascore_core.jobs import JobFile
    from jepascore_core.processes import stop_on_signals
    from jepascore_core.runner import score_dataset
    from jepascore_core.store.runs import about_dataset

    with JobFile.attached(job) as stages, stop_on_signals() as stop:
        for request in requests:
            with progress_bar(f"{request.encoder_id} · {request.dataset_id}") as advance:
                run = score_dataset(
                    request,
                    runs_dir=runs_dir,
                    stop=stop,
                    on_stage=stages.stage,
                    on_progress=partial(_show_progress, advance),
                )
            if stop.is_set():
                raise RunError("Cancelled; what is scored is kept, and the same command resumes.")
            if words := about_dataset(run.meta) or run.warning:
                typer.echo(one_line(words), err=True)
            typer.echo(run.path, err=quiet)


def _show_progress(advance: Callable[[int, int, str], None], progress: Any) -> None:
    """Move the bar to where a run is."""
    note = progress.message or (f"{progress.failed} failed" if progress.failed else "")
    advance(progress.done + progress.failed, progress.planned, note)
