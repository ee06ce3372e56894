"""Score a dataset with an encoder: read → score → write, resumable, in this process or by workers of a Ray cluster."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from jepascore_core.allowed import owner_only
from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.devices import resolve_device
from jepascore_core.errors import in_words
from jepascore_core.files import storable
from jepascore_core.locks import Cancelled, hold
from jepascore_core.processes import stop_on_signals
from jepascore_core.runner.here import score_here
from jepascore_core.runner.planning import describe, plan
from jepascore_core.runner.precision import Tolerance
from jepascore_core.runner.work import Hooks, Left, ScoreLeft, Work, ignore
from jepascore_core.store.progress import Progress, ProgressFile
from jepascore_core.store.request import RunRequest
from jepascore_core.store.run_folder import begun, make_folder, note_rewritten, prepare
from jepascore_core.store.runs import Run, about_dataset, earlier_states, read_run, runs_home

__all__ = ["Cancelled", "Hooks", "Left", "Work", "score_dataset", "score_work", "stop_on_signals"]


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
    hooks = Hooks(stop or threading.Event(), on_progress or ignore, on_stage or ignore)
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
