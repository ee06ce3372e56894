"""How far a run is: written by its process with a heartbeat, judged by whoever reads it."""

import contextlib
import dataclasses
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jepascore_core.files import read_json, remembered, storable, write_json
from jepascore_core.processes import HOST, identity, is_alive

FILE_NAME = "progress.json"
STATES = ("queued", "waiting", "running", "done", "cancelled", "failed", "interrupted")
ACTIVE = ("queued", "waiting", "running")

_MOST = 2**53  # of any number; no NaN is below it
_HEARTBEAT_S = 1.0
_SILENT_S = 60.0  # a process on another machine that is silent for this long is taken for dead
_WINDOW_S = 30.0  # speed is that of the last half minute


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        state: One of ``STATES``. No process that scores writes ``interrupted``: it is what a reader concludes
            when an active run's process is gone, and what a repair writes of a run that lacks rows.
        done: Images with a score.
        failed: Images that have an error instead; ``done + failed`` of ``planned`` are behind us.
        planned: Images in the run.
        images_per_s: Speed over the last half minute; of a run that has ended, its mean speed; or None.
        eta_s: Seconds left at that speed, or None.
        heartbeat: When this was written, seconds since 1970.
        message: What a person should know, or "".
        pid: Process that scores, or None.
        host: Its machine.
        process: Which life of ``pid`` it is.
        stages: Seconds that the loop spent waiting for images, scoring, and waiting for the writer.
        rescored: Images that this process scored again at a higher precision.
    """

    state: str
    done: int = 0
    failed: int = 0
    planned: int = 0
    images_per_s: float | None = None
    eta_s: float | None = None
    heartbeat: float = 0.0
    message: str = ""
    pid: int | None = None
    host: str = ""
    process: str | None = None
    stages: dict[str, float] = field(default_factory=dict)
    rescored: int = 0

    @property
    def active(self) -> bool:
        """Whether a process is at work or in line."""
        return self.state in ACTIVE

    @property
    def fraction(self) -> float:
        """Share of the planned images that are behind us, 0..1."""
        return min(1.0, (self.done + self.failed) / self.planned) if self.planned else 0.0


def read_progress(folder: Path) -> Progress:
    """Read a run's progress and judge whether its process still lives.

    Args:
        folder: The run's folder.

    Returns:
        The progress; an active state whose process is gone comes back as ``interrupted``.

    Raises:
        FileNotFoundError: The run has none.
        ValueError: The file is damaged; the message says so.
    """
    progress = remembered(folder / FILE_NAME, _read)
    if progress.active and not _lives(progress):
        return dataclasses.replace(progress, state="interrupted", images_per_s=None, eta_s=None)
    return progress


class ProgressFile:
    """Keeps ``progress.json`` fresh while a run goes on; a thread writes it every second.

    Args:
        folder: The run's folder.
        planned: Images in the run.
        done: Images that have a score already.
        failed: Images that have an error already.
        listener: Called with each change, from the thread that made it.
        about: What a person should know as long as the run goes on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        planned: int,
        done: int = 0,
        failed: int = 0,
        listener: Callable[[Progress], None] | None = None,
        about: str = "",
    ) -> None:
        self._path = folder / FILE_NAME
        self._progress = Progress(
            "queued", done, failed, planned, pid=os.getpid(), host=HOST, process=identity(os.getpid())
        )
        self._about = about
        self._listener = listener or (lambda progress: None)
        self._recent: deque[tuple[float, int]] = deque()
        self._begun = done + failed
        self._mean_speed = _mean_speed_of(folder)  # stays when there is nothing left to do
        self._lock = threading.Lock()  # heartbeat and loop take turns
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "ProgressFile":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._write()

    @property
    def now(self) -> Progress:
        """The latest state."""
        return self._progress

    def set(self, state: str, message: str = "") -> None:
        """Enter a state; written at once.

        Args:
            state: One of ``STATES``.
            message: What a person should know.
        """
        with self._lock:
            active = state in ACTIVE
            self._progress = dataclasses.replace(
                self._progress,
                state=state,
                message=message or (self._about if active else ""),
                images_per_s=None if active else self._mean_speed,
                eta_s=None,
            )
            self._recent.clear()
            self._recent.append((time.monotonic(), self._progress.done + self._progress.failed))
        self._write()
        self._listener(self._progress)

    def add(self, done: int, failed: int, stages: dict[str, float], *, rescored: int = 0) -> None:
        """Count a batch; the heartbeat will write it.

        Args:
            done: Images of the batch that have a score.
            failed: Images of the batch that have an error.
            stages: Seconds spent so far in each stage of the loop.
            rescored: Images scored again at a higher precision so far.
        """
        with self._lock:
            now = self._progress
            rate = self._speed(now.done + now.failed + done + failed)
            left = now.planned - now.done - now.failed - done - failed
            spent = sum(stages.values())
            behind = now.done + now.failed + done + failed - self._begun
            self._mean_speed = _four_digits(behind / spent) if spent else None
            self._progress = dataclasses.replace(
                now,
                done=now.done + done,
                failed=now.failed + failed,
                stages=dict(stages),
                rescored=rescored,
                images_per_s=_four_digits(rate) if rate else None,
                eta_s=round(left / rate, 1) if rate else None,
            )
        self._listener(self._progress)

    def _speed(self, behind: int) -> float:
        """Images per second over the window."""
        now = time.monotonic()
        self._recent.append((now, behind))
        while len(self._recent) > 2 and now - self._recent[1][0] > _WINDOW_S:
            self._recent.popleft()
        since, then = self._recent[0]
        return (behind - then) / max(now - since, 1e-6)

    def _beat(self) -> None:
        while not self._closed.wait(_HEARTBEAT_S):
            self._write()

    def _write(self) -> None:
        with self._lock:
            self._progress = dataclasses.replace(self._progress, heartbeat=time.time())
            # progress is a convenience: a full disk or memory must not end a run that could still flush, nor its heart
            with contextlib.suppress(OSError, MemoryError):
                write_json(self._path, dataclasses.asdict(self._progress), durable=False)


def _mean_speed_of(folder: Path) -> float | None:
    """Mean speed that an earlier process left behind, in images per second."""
    try:
        before = _parsed(read_json(folder / FILE_NAME))
    except (FileNotFoundError, ValueError):
        return None
    return None if before.active else before.images_per_s


def _read(path: Path) -> Progress:
    """The progress that a file holds.

    Raises:
        ValueError: The file is damaged.
    """
    return _parsed(read_json(path))


def _parsed(data: dict[str, Any]) -> Progress:
    """Progress from JSON that may be anything.

    Raises:
        ValueError: It is not a progress.
    """
    known = {f.name for f in dataclasses.fields(Progress)}
    try:
        progress = Progress(**{name: value for name, value in data.items() if name in known})
        counts = (progress.done, progress.failed, progress.planned)
        sound = progress.state in STATES and all(type(n) is int and 0 <= n <= _MOST for n in counts)
        sound &= all(_is_number(x) for x in (progress.images_per_s, progress.eta_s, progress.heartbeat))
        sound &= progress.heartbeat is not None and isinstance(progress.pid, int | None)
        sound &= isinstance(progress.message, str) and isinstance(progress.host, str)
        sound &= isinstance(progress.process, str | None) and isinstance(progress.stages, dict)
        sound = sound and all(map(_is_number, progress.stages.values()))
        sound &= type(progress.rescored) is int
    except TypeError:
        sound = False
    if not sound:
        raise ValueError(f"{FILE_NAME} does not hold a run's progress.")
    return dataclasses.replace(progress, message=storable(progress.message))


def _is_number(value: object) -> bool:
    """Whether a value is a number that can be reckoned with, or None."""
    return value is None or (type(value) in (int, float) and -_MOST <= value <= _MOST)  # type: ignore[operator]


def _lives(progress: Progress) -> bool:
    """Whether the process behind an active state is still there."""
    if progress.host == HOST:
        return progress.pid is not None and is_alive(progress.pid, progress.process)
    return time.time() - progress.heartbeat < _SILENT_S  # a clock that was set back only prolongs this


def _four_digits(speed: float) -> float:
    """A speed as it is kept: of the slowest encoders it is far below one image a second."""
    return float(f"{speed:.4g}")
