"""Work in a child process that may crash, hang or eat the memory: the parent notices, names it, and goes on.

The child says what each case took. Its memory is the peak of the case itself: Linux counts anew when it is asked to.
"""

import contextlib
import importlib
import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

BUSY_S = 10.0  # processor time of one case
WAITING_S = 60.0  # and time in all, for one that waits for what never comes; others may be using the processor
MEMORY_MB = 2048.0  # of the whole process, torch included
_GLANCE_S = 0.05
_RESTED_MB = 1100.0  # what a child holds between cases: libraries, and what their heaps kept of many cases
_NAPS = 4  # glances between two looks at the memory
_SLOW = (
    "torch",
    "timm.models",
    "duckdb",
    "jepascore_core.encoders.load",
    "jepascore_core.datasets",
    "jepascore_core.store",
)


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one case.

    Attributes:
        ok: The task returned, within the limits.
        words: What it returned, or what went wrong.
        seconds: How long it took.
        memory_mb: Most memory of the process meanwhile, MB.
    """

    ok: bool
    words: str
    seconds: float
    memory_mb: float


class Guarded:
    """Does tasks in a child process, one at a time; a new child follows one that is lost. Close it at the end.

    Args:
        environment: Variables of the child.
        memory_mb: Most memory of the child.
        imports: Modules that it imports before its first task.
    """

    def __init__(
        self,
        environment: dict[str, str] | None = None,
        *,
        memory_mb: float = MEMORY_MB,
        imports: tuple[str, ...] = _SLOW,
    ) -> None:
        self._environment, self._memory_mb, self._imports = environment or {}, memory_mb, imports
        self._child: _Child | None = None

    def __enter__(self) -> "Guarded":
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.end()

    def do(self, task: str, case: Any, *, busy_s: float = BUSY_S) -> Told:
        """Do a task.

        Args:
            task: ``module:function``; the function takes the case and returns words. Whatever it raises is a failure.
            case: What can be sent to another process.
            busy_s: Most processor time.

        Returns:
            What became of it.
        """
        self._child = self._child or _Child(self._environment, self._imports)
        told = self._child.do((task, case), self._memory_mb, busy_s)
        if not self._child.alive or self._child.memory_mb() > _RESTED_MB:
            self._child.end()
            self._child = None
        return told


class _Child:
    """One process that does cases."""

    def __init__(self, environment: dict[str, str], imports: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, environment, imports), daemon=True)
        self._process.start()
        other.close()
        self._pipe.recv()  # it has imported what it needs
        self._seen = psutil.Process(self._process.pid)
        self.alive = True

    def do(self, case: Any, memory_mb: float, busy_s: float) -> Told:
        """Send a case and wait for what became of it, or end the process."""
        begun, busy_before, most = time.monotonic(), self._busy_s(), 0.0
        try:
            self._pipe.send(case)
            glances = 0
            while not self._pipe.poll(_GLANCE_S if glances else 0.002):
                glances += 1
                lasted = time.monotonic() - begun
                if glances % _NAPS == 0:
                    most = max(most, self.memory_mb())
                if self._busy_s() - busy_before > busy_s or lasted > max(WAITING_S, 4 * busy_s):
                    return self._lost(f"It hung: no answer in {lasted:.0f} s.", begun, most)
                if most > 1.5 * memory_mb:
                    return self._lost(f"It took more than {most:,.0f} MB.", begun, most)
            ok, words, peak_mb, busy = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            return self._lost(f"It crashed: {name}.", begun, most)
        if ok and peak_mb > memory_mb:
            ok, words = False, f"It took {peak_mb:,.0f} MB. {words}"
        if ok and busy > busy_s:
            ok, words = False, f"It took {busy:.0f} s. {words}"
        return Told(ok, words, time.monotonic() - begun, peak_mb)

    def end(self) -> None:
        """Let the process go."""
        self._pipe.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _lost(self, words: str, begun: float, memory_mb: float) -> Told:
        self.alive = False
        if self._process.is_alive():
            self._process.kill()
        return Told(False, words, time.monotonic() - begun, memory_mb)

    def _busy_s(self) -> float:
        with contextlib.suppress(psutil.Error):
            times = self._seen.cpu_times()
            return float(times.user + times.system)
        return 0.0

    def memory_mb(self) -> float:
        """What the process holds now."""
        with contextlib.suppress(psutil.Error):
            return float(self._seen.memory_info().rss) / 2**20
        return 0.0


def resolve(task: str) -> Callable[[Any], str]:
    """The function that ``module:function`` names."""
    module, _, name = task.partition(":")
    found: Callable[[Any], str] = getattr(importlib.import_module(module), name)
    return found


def _serve(pipe: Connection, environment: dict[str, str], imports: tuple[str, ...]) -> None:
    """The child's side."""
    os.environ.update({"OMP_NUM_THREADS": "1", **environment})
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries in C say is not ours; a crash tells by its signal
    for module in imports:  # which are no case's doing
        importlib.import_module(module)
    pipe.send(None)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            task, case = pipe.recv()
            _forget_peak()
            busy = time.process_time()
            with _quiet() as printed:
                try:
                    ok, words = True, resolve(task)(case)
                except BaseException as error:
                    ok, words = False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if ok and printed.getvalue().strip():
                ok, words = False, f"It printed {printed.getvalue().strip()[:200]!r}."
            pipe.send((ok, words, _peak_mb(), time.process_time() - busy))


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keep what is printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def _forget_peak() -> None:
    """Begin to count the peak of the memory anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """Most memory since then."""
    with contextlib.suppress(OSError, IndexError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
