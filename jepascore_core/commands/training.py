"""Commands that train: ``train`` and ``theory``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jepascore_core.commands.app import Device, Job, Json, RunsDir, command
from jepascore_core.commands.printing import print_rows, progress_bar
from jepascore_core.errors import RunError

PANEL = "Train"  # of --help


@command(PANEL, "train --out my-encoder.safetensors --objective vicreg --steps 500")
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
    whiten_head: Annotated[
        bool, typer.Option("--whiten-head", help="End with the head that whitens the features; vit only.")
    ] = False,
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
        whiten_head=whiten_head,
        precision=precision,
        seed=seed,
        device=device,
    )
    with progress_bar("training") as advance, stop_on_signals() as stop:
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


@command(PANEL, "theory --dims 2,8,32 --samples 1000,10000 --seeds 3 --json")
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
    print_rows(records, as_json, [*columns, "untrained_raw_pearson", "gaussian_pearson"])


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

    with progress_bar("theory") as advance, ExitStack() as turn:
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
