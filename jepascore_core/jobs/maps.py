"""Maps that take long, made in processes of their own, one after the other; a page looks until they are there."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from jepascore_core.allowed import owner_only, read_only
from jepascore_core.errors import RunError
from jepascore_core.files import read_json, why
from jepascore_core.jobs.children import alive, at_work, command_line, mark, reap, start_child
from jepascore_core.jobs.job_file import last_words
from jepascore_core.store.maps import MapRequest, RunMap, forget_map, map_file, read_map
from jepascore_core.store.runs import runs_home

_NOT_MADE = "it has not been made for these runs, and this read-only dashboard makes none."
_DIED = "its process ended without a word, maybe for want of memory."


@dataclass(frozen=True, slots=True)
class Making:
    """How far a map is.

    Attributes:
        map: The map, or None.
        problem: Why it cannot be made, or "".
        since_s: Seconds that its process has been at work, or None.
    """

    map: RunMap | None = None
    problem: str = ""
    since_s: float | None = None

    @property
    def settled(self) -> bool:
        """Whether asking again gives nothing new."""
        return self.map is not None or bool(self.problem)


def make(request: MapRequest, *, runs_dir: str | Path | None = None) -> Making:
    """Give a map, or begin to make it; returns at once.

    Ask again while it is not settled. While another map is being made this one waits; one that could not be made is
    not tried again before ``forget``. A read-only dashboard gives those that are there.

    Args:
        request: The map.
        runs_dir: Where runs lie.

    Returns:
        How far it is.

    Raises:
        RunError: The request cannot be, or its process cannot be started.
    """
    home = runs_home(runs_dir)
    path = map_file(request, home)
    reap()
    found = _look(path)
    if found.settled or found.since_s is not None or at_work(path.parent):
        return found
    if read_only():
        return Making(problem=_NOT_MADE)
    _start(request, path, home)
    return _look(path)


def cancel(request: MapRequest, *, runs_dir: str | Path | None = None) -> None:
    """End the process that makes a map; asked for again, it begins anew.

    Args:
        request: The map.
        runs_dir: Where runs lie.

    Raises:
        RunError: This is a read-only dashboard.
    """
    owner_only("stop a map")
    path = map_file(request, runs_home(runs_dir))
    if alive(path):
        with contextlib.suppress(OSError, ValueError, KeyError):
            pid = int(read_json(path.with_suffix(".pid"))["pid"])
            path.with_suffix(".pid").unlink()
            os.kill(pid, signal.SIGTERM)


def forget(request: MapRequest, *, runs_dir: str | Path | None = None) -> None:
    """Forget why a map could not be made.

    Args:
        request: The map.
        runs_dir: Where runs lie.

    Raises:
        RunError: This is a read-only dashboard.
    """
    owner_only("try a map again")
    path = map_file(request, runs_home(runs_dir))
    forget_map(path)
    if not alive(path):
        path.with_suffix(".pid").unlink(missing_ok=True)


def _look(path: Path) -> Making:
    """What the files say of one map."""
    found = read_map(path)
    if found is None and alive(path):
        with contextlib.suppress(OSError):
            return Making(since_s=max(0.0, time.time() - path.with_suffix(".pid").stat().st_mtime))
    if found is None:
        found = read_map(path)  # it may have ended properly between our two looks
        if found is None and path.with_suffix(".pid").exists():
            found = last_words(path.with_suffix(".log")) or _DIED
    return Making(found) if isinstance(found, RunMap) else Making(problem=found or "")


def _start(request: MapRequest, path: Path, home: Path) -> None:
    """Make a map in a process of its own, unless another dashboard was first.

    Raises:
        RunError: The process cannot be started.
    """
    owner_only("make a map that takes long")
    try:
        path.parent.mkdir(exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if at_work(path.parent):
                return
            options = [f"--projection={request.projection}", f"--neighbours={request.neighbours}"]
            options += [f"--seed={request.seed}", f"--runs-dir={home}", f"--record={path}"]
            mark(path, start_child(command_line(["map", *options, "--", *request.runs]), path.with_suffix(".log")))
    except OSError as error:
        raise RunError(f"Cannot make a map in {path.parent} ({why(error)}).") from error
