"""Train a small JEPA: two views of each image, one encoder, an objective from ``objectives``."""

import copy
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jepascore_core.datasets.base import Dataset
from jepascore_core.devices import resolve_device
from jepascore_core.encoders.small import NETWORKS, PREPROCESS, load_small, save_checkpoint
from jepascore_core.encoders.spec import EncoderSpec
from jepascore_core.errors import RunError
from jepascore_core.files import written_aside
from jepascore_core.trainer.data import embed, normalise, resize, training_images
from jepascore_core.trainer.objectives import OBJECTIVES, covariance_eigenvalues, projection_moments
from jepascore_core.trainer.state import (
    StepRecord,
    TrainConfig,
    TrainingState,
    evenly,
    model_config,
    take_step,
    whiten_head,
)

CHECKPOINT_EVERY = 100  # steps
_JUDGED = 8192  # training images, evenly chosen, on which the head is whitened and the embeddings judged in the end
PAPERS = {"sigreg": "LeJEPA, arXiv:2511.08544", "vicreg": "VICReg, arXiv:2105.04906"}


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training left behind.

    Attributes:
        config: What was asked for.
        path: The trained encoder.
        untrained_path: The same network before its first step.
        done: False when it was stopped; asking again resumes.
        elapsed_s: Seconds spent in steps, over all its sessions.
        images: Number of training images.
        history: One record a step.
        covariance_eigenvalues: Of the training images' embeddings, descending; all 1 if Gaussian.
        projections: Moments of random projections of them, see ``projection_moments``.
    """

    config: TrainConfig
    path: Path
    untrained_path: Path
    done: bool
    elapsed_s: float
    images: int
    history: list[StepRecord] = field(repr=False)
    covariance_eigenvalues: list[float] = field(default_factory=list)
    projections: dict[str, float] = field(default_factory=dict)


def train(
    config: TrainConfig,
    *,
    out: Path,
    dataset: Dataset | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    stop: threading.Event | None = None,
) -> TrainReport:
    """Train an encoder and write it, its untrained twin and its record.

    Beside ``out`` (``x.safetensors``) stand ``x-untrained.safetensors``, ``x.training.json`` and, while it
    runs or after it was stopped, ``x.checkpoint.pt``, from which the same config resumes.

    Args:
        config: What to train.
        out: File of the trained encoder, ending in ``.safetensors``.
        dataset: Images to train on; None loads ``config.dataset``.
        on_step: Called after every step.
        stop: When set, the state is saved and the training returns with ``done`` False.

    Returns:
        The report.

    Raises:
        RunError: A setting makes no sense, the checkpoint is of another training, or the loss is no
            longer finite.
    """
    _check(config, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    device = resolve_device(config.device)
    images = training_images(
        config.dataset if dataset is None else dataset,
        input_size=config.input_size,
        limit=config.limit,
        seed=config.seed,
        hold_out_every=config.hold_out_every,
    ).to(device)  # (N, 3, S, S) uint8
    if len(images) < 2 * config.batch_size:
        raise RunError(f"Training needs at least two batches of images: {2 * config.batch_size}, not {len(images)}.")
    state = TrainingState.start(config, images, device)
    untrained = out.with_name(f"{out.stem}-untrained.safetensors")
    checkpoint = out.with_name(f"{out.stem}.checkpoint.pt")
    if checkpoint.exists():
        state.load(checkpoint)
    else:
        _save_encoder(untrained, _calibrated(state.model, images, config), config, trained=False)
    started, spent = time.monotonic(), state.elapsed_s
    while state.step < config.steps and not (stop and stop.is_set()):
        record = take_step(state, images, spent + time.monotonic() - started)
        if on_step:
            on_step(record)
        if state.step % CHECKPOINT_EVERY == 0:
            state.save(checkpoint)
    done = state.step == config.steps
    report = TrainReport(config, out, untrained, done, state.elapsed_s, len(images), state.history)
    if not done:
        state.save(checkpoint)
        return report
    if config.whiten_head:
        whiten_head(state.model, images[evenly(len(images), _JUDGED)], config.input_size)
    _save_encoder(out, state.model, config, trained=True)
    report = _measured(report, images)
    with written_aside(out.with_name(f"{out.stem}.training.json")) as aside:
        aside.write_text(_report_json(report), encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    return report


def _measured(report: TrainReport, images: Tensor) -> TrainReport:
    """The report with the diagnostics of the file as written, so after rounding to float16."""
    chosen = images[evenly(len(images), _JUDGED)]
    embeddings = embed(load_small(report.path).to(images.device), chosen, report.config.input_size)
    return replace(
        report,
        covariance_eigenvalues=covariance_eigenvalues(embeddings).tolist(),
        projections=projection_moments(embeddings),
    )


def _report_json(report: TrainReport) -> str:
    """The report as text: settings, diagnostics and the loss curve by column, no path."""
    record: dict[str, Any] = {
        "config": asdict(report.config),
        "images": report.images,
        "elapsed_s": round(report.elapsed_s, 1),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "covariance_eigenvalues": [round(value, 5) for value in report.covariance_eigenvalues],
        "projections": {name: round(value, 5) for name, value in report.projections.items()},
        "loss": [round(record.loss, 5) for record in report.history],
        "invariance": [round(record.invariance, 5) for record in report.history],
        "regulariser": [round(record.regulariser, 5) for record in report.history],
    }
    return json.dumps(record)


def _save_encoder(path: Path, model: nn.Module, config: TrainConfig, *, trained: bool) -> None:
    """Write the encoder with all that is needed to use it."""
    size = config.input_size
    spec = EncoderSpec(
        id=f"file:{path.name}",
        name=path.stem,
        family=f"small JEPA ({config.objective})" if trained else "untrained",
        embedding_dim=config.embedding_dim,
        input_size=(3, size, size),
        pooling="mean" if config.network == "vit" else "average pool",
        null_dim=0,
        licence="MIT",
        paper=PAPERS[config.objective],
    )
    preprocess = {**PREPROCESS, "input_size": size}
    save_checkpoint(path, model, config=model_config(config), spec=spec, preprocess=preprocess)


def _calibrated(model: nn.Module, images: Tensor, config: TrainConfig) -> nn.Module:
    """A copy whose batch norms hold the statistics of the training images; no weight is moved.

    With the initial statistics (mean 0, variance 1) the signal fades from layer to layer, and the
    singular values of the untrained network lie near eps, where the score is cut off.
    """
    twin = copy.deepcopy(model)
    for norm in (module for module in twin.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = None  # averages over all batches
    with torch.no_grad():
        for batch in images[evenly(len(images), 2048)].split(256):
            twin(normalise(resize(batch, config.input_size)))
    return twin


def _check(config: TrainConfig, out: Path) -> None:
    """Refuse settings that cannot work, with the value in the message."""
    if config.objective not in OBJECTIVES:
        raise RunError(f"No objective named {config.objective!r}; there are {', '.join(OBJECTIVES)}.")
    if out.suffix != ".safetensors":
        raise RunError(f"The encoder's file must end in .safetensors, not {out.name!r}.")
    if not config.lr > 0:
        raise RunError(f"lr must be above 0, not {config.lr:g}.")
    if not 0 <= config.weight <= 1:
        raise RunError(f"weight must lie between 0 and 1, not {config.weight}.")
    if config.network not in NETWORKS:
        raise RunError(f"No network named {config.network!r}; there are {', '.join(NETWORKS)}.")
    if config.whiten_head and config.network != "vit":
        raise RunError("whiten_head goes with network vit.")
    if config.precision not in ("float32", "bfloat16"):
        raise RunError(f"precision must be float32 or bfloat16, not {config.precision!r}.")
    if not 0 < config.min_area <= 1 or not 0 <= config.jitter < 1:
        raise RunError("A view shows a share of the image (min_area in (0, 1]) and moves colours by less than all.")
    patches = NETWORKS["vit"]["patch_size"] * (2 if config.local_views else 1)  # a local view has half the side
    if config.network == "vit" and config.input_size % patches:
        raise RunError(f"input_size must be a multiple of {patches}, not {config.input_size}.")
    for name, least in (
        ("steps", 1),
        ("batch_size", 2),
        ("embedding_dim", 2),
        ("input_size", 16),
        ("limit", 2),
        ("hold_out_every", 0),
        ("local_views", 0),
    ):
        if getattr(config, name) < least:
            raise RunError(f"{name} must be at least {least}, not {getattr(config, name)}.")
