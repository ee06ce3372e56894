"""The file of a job: what its process says of itself, and what a reader concludes when that process is gone."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jepascore_core.errors import in_words
from jepascore_core.files import read_json, storable, write_json
from jepascore_core.locks import Cancelled
from jepascore_core.processes import HOST, identity, is_alive

FOLDER = ".jobs"  # within the runs folder
STATES = (
    "starting", "loading encoder", "listing dataset", "waiting", "scoring", "training",
    "done", "failed", "cancelled", "interrupted",
)  # fmt: skip
ENDED = ("done", "failed", "cancelled", "interrupted")

_LARGEST = 2**53  # of any number; no NaN is below it
_BIRTH_S = 10.0  # a job without a process this long after its start never had one


@dataclass(frozen=True, slots=True)
class Job:
    """Work that another process does.

    Attributes:
        path: Its JSON file.
        kind: ``score``, ``demo``, ``sensitivity`` or ``theory``.
        argv: Its command line.
        pid: Its process, or None before there is one.
        state: One of ``STATES``.
        runs: Folder names of the runs that it has written to.
        message: What a person should know, or "".
        started: When, ISO 8601 in UTC.
        request: What it scores, for ``score`` and ``sensitivity``; which experiments it runs, for ``theory``.
        host: Its machine.
        process: Which life of ``pid`` it is.
        done: Experiments that are there, for ``theory``.
        planned: Experiments asked for, or 0 before that is known.
        eta_s: Seconds left, where they can be reckoned.
    """

    path: Path
    kind: str
    argv: list[str]
    pid: int | None = None
    state: str = "starting"
    runs: list[str] = field(default_factory=list)
    message: str = ""
    started: str = ""
    request: dict[str, Any] | None = None
    host: str = ""
    process: str | None = None
    done: int = 0
    planned: int = 0
    eta_s: float | None = None

    @property
    def id(self) -> str:
        """Name of the job."""
        return self.path.stem

    @property
    def active(self) -> bool:
        """Whether its process is at work."""
        return self.state not in ENDED


class JobFile:
    """The job's own side: says what it is doing. Without a file it says nothing.

    Args:
        path: The job's file, made by ``start``; None for a command that a person typed.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._state = "starting"

    @classmethod
    @contextlib.contextmanager
    def attached(cls, path: str | Path | None) -> Iterator["JobFile"]:
        """Be a job for the length of a block, and write down how it ended.

        Args:
            path: The job's file, or None.

        Yields:
            The job, to be told stages.
        """
        job = cls(Path(path) if path else None)
        job._write(pid=os.getpid(), host=HOST, process=identity(os.getpid()))
        try:
            yield job
        except BaseException as error:
            stopped = isinstance(error, Cancelled | KeyboardInterrupt)
            if job._state != "cancelled":  # the last word is said once: whoever reads it may dismiss the job
                job._write(state="cancelled" if stopped else "failed", message="" if stopped else in_words(error))
            raise
        if job._state != "cancelled":
            job._write(state="done", message="")

    @property
    def attached_to_file(self) -> bool:
        """Whether this is a job, and not a command that a person typed."""
        return self._path is not None

    def stage(self, state: str) -> None:
        """Enter a stage.

        Args:
            state: One of ``STATES``.
        """
        self._write(state=state, **({"message": ""} if state in ENDED else {}))

    def progress(self, done: int, planned: int, message: str, eta_s: float | None = None) -> None:
        """Say how far a job is whose results are no run.

        Args:
            done: Experiments that are there.
            planned: Experiments asked for.
            message: What is being done now.
            eta_s: Seconds left, or None.
        """
        self._write(done=done, planned=planned, message=message, eta_s=eta_s)

    def _write(self, **changes: Any) -> None:
        self._state = changes.get("state", self._state)
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError):  # a job that was dismissed works on
                write_json(self._path, {**read_json(self._path), **changes}, durable=False)


def read_job(path: Path) -> Job:
    """A job as its files tell it.

    Args:
        path: Its JSON file.

    Returns:
        The job; its runs are not known yet.

    Raises:
        FileNotFoundError: It was dismissed.
        ValueError: Its file is damaged.
        TypeError: Its file is damaged.
    """
    data = read_json(path)
    if data.get("pid") is None:  # its process has not spoken yet; whoever started it wrote down the id
        with contextlib.suppress(FileNotFoundError, ValueError):
            data |= read_json(path.with_suffix(".pid"))
    known = {f.name for f in dataclasses.fields(Job)} - {"path"}
    job = Job(path, **{name: value for name, value in data.items() if name in known})
    if not _sound(job):
        raise ValueError(f"{path.name} does not hold a job.")
    return dataclasses.replace(job, message=storable(job.message))


def _sound(job: Job) -> bool:
    """Whether everything that a file said of a job is of its type."""
    texts = (job.kind, job.state, job.message, job.started, job.host)
    if not all(isinstance(text, str) for text in texts) or job.state not in STATES:
        return False
    lists = (job.argv, job.runs)
    if not all(isinstance(held, list) and all(isinstance(text, str) for text in held) for held in lists):
        return False
    counted = all(type(n) is int and 0 <= n < _LARGEST for n in (job.done, job.planned))
    reckoned = job.eta_s is None or (type(job.eta_s) in (int, float) and abs(job.eta_s) < _LARGEST)
    named = isinstance(job.pid, int | None) and isinstance(job.process, str | None)
    return counted and reckoned and named and isinstance(job.request, dict | None)


def read_jobs(home: Path, written: dict[str, list[str]]) -> list[Job]:
    """Every job that was not dismissed, as a person should see it; a damaged file is passed over.

    Args:
        home: Where runs lie.
        written: As ``judged`` takes it.

    Returns:
        The jobs, in no order.
    """
    jobs = []
    for path in (home / FOLDER).glob("*.json"):  # none where nobody could ever write
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            jobs.append(judged(read_job(path), written))
    return jobs


def judged(job: Job, written: dict[str, list[str]]) -> Job:
    """The job with its runs, and with a last word if its process is gone without one.

    Args:
        job: As ``read_job`` gave it.
        written: Names of the runs that each process was the last to write to.

    Returns:
        The job as a person should see it.
    """
    job = dataclasses.replace(job, runs=written.get(job.process or "", []))
    if not job.active or job.host != HOST:  # another machine's processes cannot be seen from here
        return job
    unborn = job.pid is None and _age_s(job) < _BIRTH_S
    if unborn or (job.pid is not None and is_alive(job.pid, job.process)):
        return job
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        again = read_job(job.path)  # it may have ended properly between our two looks
        if not again.active:
            return dataclasses.replace(again, runs=job.runs)
    if job.path.with_suffix(".cancel").exists():
        return dataclasses.replace(job, state="cancelled")
    state = "interrupted" if job.runs or job.done else "failed"
    return dataclasses.replace(
        job, state=state, message=last_words(job.path.with_suffix(".log")) or "Its process ended without a word."
    )


def last_words(log: Path) -> str:
    """Last line that a process wrote before it died.

    Args:
        log: What it printed.

    Returns:
        At most 300 characters, or "".
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    words = (line.rpartition("\r")[2].strip() for line in reversed(lines))
    return next((line[:300] for line in words if line), "")


def _age_s(job: Job) -> float:
    """Seconds since a job's file was made; 0 when a clock was set back."""
    with contextlib.suppress(OSError):
        return max(0.0, time.time() - job.path.stat().st_mtime)
    return 0.0
