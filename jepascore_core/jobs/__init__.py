"""Long work as processes of their own: started, listed, cancelled. A closed dashboard does not end them.

A job is a small JSON file under ``<runs>/.jobs`` that its process keeps up to date; beside it lie its
log, its process id and, once someone asked for it, a mark that it is to be cancelled.
"""

import contextlib
import dataclasses
import os
import signal
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from jepascore_core.allowed import owner_only
from jepascore_core.errors import RunError
from jepascore_core.files import write_json
from jepascore_core.jobs.children import command_line, reap, start_child
from jepascore_core.jobs.costs import Estimate, break_off, estimates, forget
from jepascore_core.jobs.job_file import ENDED, FOLDER, STATES, Job, JobFile, judged, read_job, read_jobs
from jepascore_core.jobs.sensitivity_request import SensitivityRequest
from jepascore_core.jobs.theory_request import TheoryRequest
from jepascore_core.processes import HOST, identity, is_alive
from jepascore_core.store.progress import read_progress
from jepascore_core.store.request import RunRequest
from jepascore_core.store.runs import runs_home

__all__ = [
    "ENDED",
    "STATES",
    "Estimate",
    "Job",
    "JobFile",
    "SensitivityRequest",
    "TheoryRequest",
    "cancel",
    "demo_requests",
    "dismiss",
    "estimates",
    "forget",
    "list_jobs",
    "resume",
    "start",
    "start_demo",
    "start_sensitivity",
    "start_theory",
]

_DEMO = ("demo:photos", "demo:digits", "demo:galaxies", "demo:histology")


def start(request: RunRequest, *, runs_dir: str | Path | None = None) -> Job:
    """Score in a process of its own.

    Args:
        request: What to score.
        runs_dir: Where runs lie.

    Returns:
        The job; at work.

    Raises:
        RunError: The request cannot be, or the process cannot be started.
    """
    request.check()
    return _start("score", ["score", *request.to_argv()], runs_home(runs_dir), request.to_json())


def start_demo(*, runs_dir: str | Path | None = None) -> Job:
    """Score the demo in a process of its own, once: asked again, also from another browser, gives the same job.

    Args:
        runs_dir: Where runs lie.

    Returns:
        The job at work, or the one that is done if its runs are still there.

    Raises:
        RunError: The process cannot be started.
    """
    owner_only("start the demo")
    home = runs_home(runs_dir)
    with FileLock(_folder(home) / ".demo.lock"):
        for job in list_jobs(home):
            finished = job.state == "done" and job.runs
            if job.kind == "demo" and (job.active or finished):
                return job
        return _start("demo", ["demo"], home, None)


def start_theory(request: TheoryRequest, *, runs_dir: str | Path | None = None) -> Job:
    """Run a grid of experiments of the theory lab in a process of its own; what is kept already is not run again.

    Args:
        request: Which experiments.
        runs_dir: Where runs lie.

    Returns:
        The job; at work.

    Raises:
        RunError: The request cannot be, or the process cannot be started.
    """
    request.check()
    return _start("theory", ["theory", *request.to_argv()], runs_home(runs_dir), request.to_json())


def start_sensitivity(request: SensitivityRequest, *, runs_dir: str | Path | None = None) -> Job:
    """Score what an experiment lacks, one run after the other, in a process of its own.

    Args:
        request: Which experiment, of which run.
        runs_dir: Where runs lie.

    Returns:
        The job; at work.

    Raises:
        RunError: The process cannot be started.
    """
    home = runs_home(runs_dir)
    argv = request.to_argv()
    return _start("sensitivity", ["sensitivity", *argv], home, request.to_json())


def resume(job: Job, *, runs_dir: str | Path | None = None) -> Job:
    """Start what a job that has ended was asked for once more; what it stored is not done again.

    Args:
        job: The job; it is forgotten.
        runs_dir: Where runs lie.

    Returns:
        The new job; at work.

    Raises:
        RunError: It is still at work, or cannot be started.
    """
    owner_only("resume a job")
    dismiss(job)
    if job.kind == "theory":
        return start_theory(TheoryRequest.from_json(job.request or {}), runs_dir=runs_dir)
    if job.kind == "sensitivity":
        return start_sensitivity(SensitivityRequest.from_json(job.request or {}), runs_dir=runs_dir)
    if job.request:
        return start(RunRequest.from_json(job.request), runs_dir=runs_dir)
    return start_demo(runs_dir=runs_dir)


def demo_requests(*, device: str = "auto") -> list[RunRequest]:
    """What the demo scores: four datasets with the trained encoder, then with its untrained twin as a control.

    Args:
        device: As ``RunRequest`` takes it.

    Returns:
        The requests, in order.
    """
    encoders = ("demo:jepa-tiny", "demo:jepa-tiny-untrained")
    return [RunRequest(encoder, dataset, device=device) for encoder in encoders for dataset in _DEMO]


def list_jobs(runs_dir: str | Path | None = None) -> list[Job]:
    """Every job that was not dismissed, newest first; a damaged file is passed over.

    Args:
        runs_dir: Where runs lie.

    Returns:
        The jobs; those whose process is gone without a word are ``interrupted``, ``failed`` or ``cancelled``.
    """
    home = runs_home(runs_dir)
    reap()
    jobs = read_jobs(home, _runs_by_process(home))
    return sorted(jobs, key=lambda job: (job.started, job.id), reverse=True)


def cancel(job: Job) -> None:
    """Ask a job to finish its batch and stop; returns at once.

    Args:
        job: The job.

    Raises:
        RunError: It runs on another machine, belongs to another user, or this is a read-only dashboard.
    """
    owner_only("cancel a job")
    job = _current(job)
    if not job.active:
        return
    if job.host not in ("", HOST):
        raise RunError(f"This job runs on {job.host}; cancel it there.")
    with contextlib.suppress(OSError):
        job.path.with_suffix(".cancel").touch()  # tells a cancelled job from a killed one, if it dies too early to say
    if job.pid is not None and is_alive(job.pid, job.process):
        try:
            os.kill(job.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        except PermissionError as error:
            raise RunError("This job belongs to another user of this machine.") from error


def dismiss(job: Job) -> None:
    """Forget a job that has ended; its runs stay.

    Args:
        job: The job.

    Raises:
        RunError: It is still at work, or this is a read-only dashboard.
    """
    owner_only("dismiss a job")
    if _current(job).active:
        raise RunError("This job is still at work; cancel it first.")
    for suffix in (".json", ".log", ".pid", ".cancel"):
        with contextlib.suppress(OSError):
            job.path.with_suffix(suffix).unlink()


def _start(kind: str, command: Sequence[str], home: Path, request: dict[str, Any] | None) -> Job:
    """Write the job's file and start its process in a session of its own.

    Raises:
        RunError: The process cannot be started.
    """
    owner_only("start a job")
    break_off(home)  # a run does not wait for a measurement of its cost
    moment = datetime.now(UTC)
    path = _folder(home) / f"{moment:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}.json"
    argv = command_line([*command, f"--runs-dir={home}", f"--job={path}"])
    job = Job(path, kind, argv, started=moment.isoformat(), request=request, host=HOST)
    try:
        write_json(path, {name: value for name, value in dataclasses.asdict(job).items() if name != "path"})
        pid = start_child(argv, path.with_suffix(".log"))
        job = dataclasses.replace(job, pid=pid, process=identity(pid))
        write_json(path.with_suffix(".pid"), {"pid": job.pid, "process": job.process}, durable=False)
    except OSError as error:
        raise RunError(f"Cannot start a job in {path.parent} ({error.strerror}).") from error
    return job


def _folder(home: Path) -> Path:
    """Folder of the jobs.

    Raises:
        RunError: It cannot be made.
    """
    folder = home / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write in {home} ({error.strerror}).") from error
    return folder


def _current(job: Job) -> Job:
    """The job as it is now; one that was dismissed has ended."""
    reap()
    try:
        return judged(read_job(job.path), {})
    except (FileNotFoundError, ValueError, TypeError):
        return dataclasses.replace(job, state="interrupted")


def _runs_by_process(home: Path) -> dict[str, list[str]]:
    """Names of the runs that each process was the last to write to, oldest first."""
    found: dict[str, list[tuple[float, str]]] = {}
    for path in home.glob("*/progress.json"):
        with contextlib.suppress(FileNotFoundError, ValueError):
            progress = read_progress(path.parent)
            if progress.process:
                found.setdefault(progress.process, []).append((progress.heartbeat, path.parent.name))
    return {process: [name for _, name in sorted(runs)] for process, runs in found.items()}
