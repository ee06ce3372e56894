"""Score a dataset with an encoder: read → score → write, resumable, in this process or by workers of a Ray cluster."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from jepascore_core.allowed import owner_only
from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.devices import lock_of, resolve_device
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.errors import in_words
from jepascore_core.files import storable
from jepascore_core.locks import Cancelled, hold
from jepascore_core.memory import bound_memory
from jepascore_core.processes import stop_on_signals
from jepascore_core.runner.planning import default_batch_size, describe, plan
from jepascore_core.runner.precision import CALIBRATION_IMAGES, Ladder, Tolerance, ladder_of
from jepascore_core.runner.reading import Loaded, read_ahead, reader
from jepascore_core.runner.scoring import BatchScorer, interruptible
from jepascore_core.store.part_writer import PartWriter
from jepascore_core.store.parts import Row
from jepascore_core.store.progress import Progress, ProgressFile
from jepascore_core.store.request import RunRequest
from jepascore_core.store.run_folder import begun, make_folder, note_rewritten, prepare
from jepascore_core.store.runs import Run, about_dataset, earlier_states, read_run, runs_home

__all__ = ["Cancelled", "Hooks", "Work", "run_scoring", "score_dataset", "score_work", "stop_on_signals"]


def _ignore(_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who is told what, and who may end it.

    Attributes:
        stop: Set it to finish the present batch, write it, and return; a batch that takes long is given up.
        on_progress: Called after each batch and at each change of state.
        on_stage: Told ``loading encoder``, ``listing dataset``, ``waiting``, ``scoring``, ``cancelled``.
    """

    stop: threading.Event
    on_progress: Callable[[Progress], None] = _ignore
    on_stage: Callable[[str], None] = _ignore


@dataclass(frozen=True, slots=True)
class Work:
    """All parts of a run, at hand.

    Attributes:
        request: What was asked for.
        encoder: On the CPU; moved to the device when that is free.
        dataset: The images.
        device: Where to score.
        home: Where runs lie.
        thumbnail: PIL -> JPEG.
    """

    request: RunRequest
    encoder: Encoder
    dataset: Dataset
    device: torch.device
    home: Path
    thumbnail: Callable[[Image.Image], bytes]

    @property
    def batch_size(self) -> int:
        """Images scored together."""
        return self.request.batch_size or default_batch_size(self.encoder, self.device, self.request.views)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a run; its lock is held.

    Attributes:
        work: All parts of the run.
        planned: Every image of the run, in order.
        items: Those that are not stored, in order; at least one.
        tolerance: Knows the scores that are stored.
        folder: The run's folder.
    """

    work: Work
    planned: Sequence[Item]
    items: Sequence[Item]
    tolerance: Tolerance
    folder: Path


ScoreLeft = Callable[[Left, ProgressFile, Hooks], None]


def score_dataset(
    request: RunRequest,
    *,
    runs_dir: str | Path | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Run:
    """Score what was asked for, or what is left of it.

    Args:
        request: What to score.
        runs_dir: Where runs lie; None takes the usual place.
        stop: See ``Hooks``.
        on_progress: See ``Hooks``.
        on_stage: See ``Hooks``.

    Returns:
        The run; ``progress()`` says whether it is done or cancelled.

    Raises:
        JepaScoreError: The encoder, the dataset or the run's folder is out of reach; or, as ``Cancelled``,
            ``stop`` was set before there was anything to keep.
    """
    owner_only("score images")
    hooks = Hooks(stop or threading.Event(), on_progress or _ignore, on_stage or _ignore)
    request.check()
    home = runs_home(runs_dir)
    try:
        with _engine(request) as (device, score_left):  # refuse these before minutes of loading
            return score_work(_load(request, home, device, hooks), hooks, score_left)
    finally:
        if hooks.stop.is_set():
            hooks.on_stage("cancelled")


def score_work(work: Work, hooks: Hooks, score_left: ScoreLeft | None = None) -> Run:
    """Score a dataset that is listed with an encoder that is loaded.

    Args:
        work: All parts of the run.
        hooks: Who is told what.
        score_left: What scores the images that are left; None takes this process.

    Returns:
        The run; ``progress()`` says whether it is done or cancelled.

    Raises:
        JepaScoreError: The sample is empty, or the run's folder cannot be written.
    """
    planned = plan(work.dataset, work.request)
    meta = describe(
        work.request,
        work.encoder,
        work.dataset,
        planned=len(planned),
        device=work.device,
        batch_size=work.batch_size,
    )
    if not (work.home / meta["name"]).exists() and (earlier := earlier_states(work.home, meta)):
        meta["dataset"]["earlier"] = earlier
    folder = make_folder(work.home / meta["name"])

    def wait(_: str) -> None:
        hooks.on_stage("waiting")
        message = "Waiting for another process, which is scoring this run."
        # the one who holds the run writes progress.json; we only tell our own caller
        hooks.on_progress(Progress("waiting", planned=len(planned), message=message))

    with contextlib.suppress(Cancelled), hold(folder / ".lock", waiting=wait, stop=hooks.stop):
        _resume(work, planned, folder, prepare(folder, meta), hooks, score_left or score_here)
    return read_run(folder)


def run_scoring(
    items: Sequence[Item],
    *,
    read: Callable[[Item], Loaded],
    score: Callable[[Sequence[Loaded]], list[Row]],
    write: Callable[[Sequence[Row]], None],
    report: Callable[[int, int, dict[str, float]], None],
    batch_size: int,
    stop: threading.Event,
    readers: int | None = None,
) -> None:
    """Read, score and write images until none is left or ``stop`` is set.

    Args:
        items: What is left to score.
        read: Reads one image; called from threads.
        score: Scores a batch.
        write: Takes a batch's rows.
        report: Told the numbers of new scores and errors, and the seconds spent so far waiting for images
            (``read_s``), scoring (``score_s``) and handing rows over (``write_s``).
        batch_size: Images in a batch.
        stop: Ends the loop after the present batch.
        readers: Threads that read; None takes one for each CPU core, at most 16.
    """
    seconds = {"read_s": 0.0, "score_s": 0.0, "write_s": 0.0}
    with contextlib.closing(read_ahead(items, read, batch_size=batch_size, workers=readers, stop=stop)) as batches:
        while True:
            with _timed(seconds, "read_s"):
                batch = next(batches, None)
            if batch is None:
                return
            with _timed(seconds, "score_s"):
                rows = score(batch)
            with _timed(seconds, "write_s"):
                write(rows)
            failed = sum(row["error"] is not None for row in rows)
            report(len(rows) - failed, failed, seconds)


def _load(request: RunRequest, home: Path, device: torch.device, hooks: Hooks) -> Work:
    """Load the encoder and list the dataset."""
    from jepascore_core.datasets import load_dataset
    from jepascore_core.datasets.images import thumbnail
    from jepascore_core.encoders import load_encoder

    hooks.on_stage("loading encoder")
    encoder = load_encoder(
        request.encoder_id, device="cpu", pretrained=request.pretrained, input_size=request.input_size
    )
    _give_up_if(hooks.stop)
    hooks.on_stage("listing dataset")
    dataset = load_dataset(request.dataset_id)
    _give_up_if(hooks.stop)
    return Work(request, encoder, dataset, device, home, thumbnail)


@contextlib.contextmanager
def _here(request: RunRequest) -> Iterator[tuple[torch.device, ScoreLeft]]:
    """The engine that scores in this process."""
    yield resolve_device(request.device), score_here


def _engine(request: RunRequest) -> AbstractContextManager[tuple[torch.device, ScoreLeft]]:
    """The device of a request, and what scores there."""
    if request.engine == "local":
        return _here(request)
    from jepascore_core.cluster import check_ray

    check_ray()
    from jepascore_core.cluster.driver import on_ray

    return on_ray(request)


def _resume(
    work: Work,
    planned: Sequence[Item],
    folder: Path,
    stored: dict[str, float | None],
    hooks: Hooks,
    score_left: ScoreLeft,
) -> None:
    """Score planned minus stored; progress.json tells how it ended. We hold the run's lock."""
    left = [item for item in planned if storable(item.key) not in stored]
    tolerance = Tolerance(work.request.tolerance, {storable(item.key): place for place, item in enumerate(planned)})
    tolerance.learn({key: score for key, score in stored.items() if score is not None})
    done = sum(score is not None for score in stored.values())
    with (
        ProgressFile(
            folder,
            planned=len(planned),
            done=done,
            failed=len(stored) - done,
            listener=hooks.on_progress,
            about=about_dataset(read_run(folder).meta),
        ) as progress,
        _watching(work.dataset, folder),
        _ending(progress),
    ):
        if left:
            score_left(Left(work, planned, left, tolerance, folder), progress, hooks)


def score_here(left: Left, progress: ProgressFile, hooks: Hooks) -> None:
    """Wait for the device, then calibrate on the run's first images and score what is left, in this process.

    Args:
        left: What is left of a run.
        progress: Told how far it is.
        hooks: Who is told what.

    Raises:
        Cancelled: ``stop`` was set before the last image.
    """
    work = left.work

    def wait(holder: str) -> None:
        progress.set("waiting", f"Waiting for {work.device}, which is busy with {holder or 'another run'}.")
        hooks.on_stage("waiting")

    with hold(lock_of(work.device), holder=left.folder.name, waiting=wait, stop=hooks.stop):
        progress.set("running")
        hooks.on_stage("scoring")
        read, score = ready(work, left.tolerance, left.planned[:CALIBRATION_IMAGES], hooks.stop)
        with PartWriter(left.folder) as writer:
            run_scoring(
                left.items,
                read=read,
                score=score,
                write=writer.write,
                report=lambda *counts: progress.add(*counts, rescored=score.ladder.rescored),
                batch_size=work.batch_size,
                stop=hooks.stop,
            )
    if progress.now.done + progress.now.failed < progress.now.planned:
        raise Cancelled("Cancelled.")


def ready(
    work: Work, tolerance: Tolerance, first: Sequence[Item], stop: threading.Event
) -> tuple[Callable[[Item], Loaded], BatchScorer]:
    """Put the encoder on its device, and calibrate it where there are several precisions.

    Args:
        work: All parts of the run.
        tolerance: How exact each score must be.
        first: The run's first images.
        stop: Ends a batch that takes long.

    Returns:
        What reads an image, and what scores a batch of those.
    """
    bound_memory(work.device, work.request.memory_share)
    dtype = torch.float64 if work.request.precision == "float64" else torch.float32
    ladder = Ladder(
        work.encoder.to(work.device, dtype), ladder_of(work.request.precision, work.device), interruptible(stop)
    )
    score = BatchScorer(ladder, tolerance, device=work.device, dtype=dtype)
    read = reader(
        work.dataset, work.encoder.transform, work.thumbnail, views=work.request.views, seed=work.request.seed
    )
    if len(ladder.precisions) > 1:
        score.calibrate([read(item) for item in first])
    return read, score


@contextlib.contextmanager
def _watching(dataset: Dataset, folder: Path) -> Iterator[None]:
    """Write down how many images were written anew since the run began, which no fingerprint tells."""
    dataset.watch(begun(folder))
    before = dataset.rewritten
    try:
        yield
    finally:
        note_rewritten(folder, dataset.rewritten - before)


@contextlib.contextmanager
def _ending(progress: ProgressFile) -> Iterator[None]:
    """Write down how a run ended."""
    try:
        yield
        progress.set("done")
    except (Cancelled, KeyboardInterrupt):
        progress.set("cancelled")
        raise
    except Exception as error:
        progress.set("failed", in_words(error))
        raise


def _give_up_if(stop: threading.Event) -> None:
    """Give up between two steps.

    Raises:
        Cancelled: ``stop`` is set.
    """
    if stop.is_set():
        raise Cancelled("Cancelled before scoring began.")


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time of a block to a stage."""
    start = time.perf_counter()
    yield
    seconds[stage] += time.perf_counter() - start
