"""Costs of runs, measured in processes of their own, one after the other, and never beside a run."""

import contextlib
import ctypes
import functools
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from jepascore_core.allowed import owner_only, read_only
from jepascore_core.errors import RunError
from jepascore_core.files import read_json
from jepascore_core.jobs.children import alive, at_work, command_line, mark, reap, start_child
from jepascore_core.jobs.job_file import last_words, read_jobs
from jepascore_core.locks import device_lock, holder_of
from jepascore_core.store.costs import FOLDER, Cost, cost_file, read_cost
from jepascore_core.store.request import RunRequest
from jepascore_core.store.runs import runs_home

_DIED = "its process ended without a word, maybe for want of memory."


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a run's cost now.

    Attributes:
        request: The run.
        cost: The measured cost, or None.
        problem: Why it cannot be measured, or "".
        busy_with: Who holds the device, so that it is not measured yet, or "".
    """

    request: RunRequest
    cost: Cost | None = None
    problem: str = ""
    busy_with: str = ""

    @property
    def settled(self) -> bool:
        """Whether asking again gives nothing new."""
        return self.cost is not None or bool(self.problem)


def estimates(requests: Sequence[RunRequest], *, runs_dir: str | Path | None = None) -> list[Estimate]:
    """What is known of some runs' costs; a process begins to measure the first that is not.

    It measures on the whole dataset whatever the sample, so that one measurement serves every sample. Returns at once;
    ask again while an estimate is not settled. A read-only dashboard measures none. A cost that could not be measured
    is not tried again before ``forget``.

    Args:
        requests: The runs.
        runs_dir: Where runs lie.

    Returns:
        One estimate for each request.

    Raises:
        RunError: A request cannot be, its device is unknown, or a process cannot be started.
    """
    home = runs_home(runs_dir)
    reap()
    found = [_look(request, cost_file(request, home)) for request in requests]
    missing = next((estimate.request for estimate in found if not estimate.settled), None)
    if missing is None or read_only() or at_work(home / FOLDER):
        return found
    missing.check()
    if busy_with := _holder(missing.device, home):
        return [e if e.settled else Estimate(e.request, busy_with=busy_with) for e in found]
    _start(missing, cost_file(missing, home))
    return found


def forget(requests: Sequence[RunRequest], *, runs_dir: str | Path | None = None) -> None:
    """Forget what was measured, so that it is measured again.

    Args:
        requests: The runs.
        runs_dir: Where runs lie.

    Raises:
        RunError: This is a read-only dashboard.
    """
    owner_only("forget a cost")
    home = runs_home(runs_dir)
    for path in {cost_file(request, home) for request in requests}:
        for suffix in (".json", ".log"):
            path.with_suffix(suffix).unlink(missing_ok=True)
        if not alive(path):
            path.with_suffix(".pid").unlink(missing_ok=True)


def break_off(home: Path) -> None:
    """End a measurement that is under way; it is taken up again when asked for.

    Args:
        home: Where runs lie.
    """
    for path in at_work(home / FOLDER):
        with contextlib.suppress(OSError, ValueError):
            pid = int(read_json(path)["pid"])
            path.unlink()
            os.kill(pid, signal.SIGTERM)


def _look(request: RunRequest, path: Path) -> Estimate:
    """What the files say of one request."""
    found = read_cost(path)
    if found is None and path.with_suffix(".pid").exists() and not alive(path):
        found = read_cost(path)  # it may have ended properly between our two looks
        if found is None and path.with_suffix(".pid").exists():
            found = last_words(path.with_suffix(".log")) or _DIED
    if isinstance(found, Cost):
        return Estimate(request, found)
    return Estimate(request, problem=found or "")


def _holder(device: str, home: Path) -> str:
    """Who holds a device, or is about to; "" when it is free.

    Raises:
        RunError: There is no such device.
    """
    holder = holder_of(_lock(device))
    loading = any(job.active for job in read_jobs(home, {}))
    return holder or ("a run that begins" if loading else "")


def _lock(device: str) -> Path:
    """Lock of a device; torch, which takes seconds to load, is asked only where there may be a GPU.

    Raises:
        RunError: There is no such device.
    """
    if device == "cpu" or (device == "auto" and not _gpu_driver()):
        return device_lock("cpu")
    from jepascore_core.devices import lock_of, resolve_device

    return lock_of(resolve_device(device))


@functools.cache
def _gpu_driver() -> bool:
    """Whether a driver is installed without which torch finds no GPU: NVIDIA's or AMD's."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(library)
            return True
    return Path("/dev/kfd").exists()


def _start(request: RunRequest, path: Path) -> None:
    """Measure in a process of its own, unless another dashboard was first.

    Raises:
        RunError: The process cannot be started.
    """
    owner_only("measure a cost")
    alone = request.on_one_machine().to_json()
    whole = RunRequest.from_json(alone | {"per_class": None, "limit": None, "classes": None, "seed": 0})
    try:
        path.parent.mkdir(exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if at_work(path.parent):
                return
            argv = command_line(["cost", *whole.to_argv(), f"--record={path}"])
            mark(path, start_child(argv, path.with_suffix(".log")))
    except OSError as error:
        raise RunError(f"Cannot measure the cost in {path.parent} ({error.strerror}).") from error
