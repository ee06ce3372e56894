"""Score what is left of a run in this process: read → score → write."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from jepascore_core.datasets.base import Item
from jepascore_core.devices import lock_of
from jepascore_core.locks import Cancelled, hold
from jepascore_core.memory import bound_memory
from jepascore_core.runner.precision import CALIBRATION_IMAGES, Ladder, Tolerance, ladder_of
from jepascore_core.runner.reading import Loaded, read_ahead, reader
from jepascore_core.runner.scoring import BatchScorer, interruptible
from jepascore_core.runner.work import Hooks, Left, Work
from jepascore_core.store.part_writer import PartWriter
from jepascore_core.store.parts import Row
from jepascore_core.store.progress import ProgressFile


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


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time of a block to a stage."""
    start = time.perf_counter()
    yield
    seconds[stage] += time.perf_counter() - start
