"""Locks that the system frees when their holder dies: one writer for a run or its tags, one run for a device."""

import contextlib
import getpass
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from jepascore_core.errors import RunError
from jepascore_core.processes import HOST

_POLL_S = 0.2


class Cancelled(RunError):
    """The user cancelled; nothing is wrong."""


class Busy(RunError):
    """Another process holds what we need; later it will not."""


@contextlib.contextmanager
def hold(
    path: Path, *, holder: str = "", waiting: Callable[[str], None], stop: threading.Event | None = None
) -> Iterator[None]:
    """Hold a lock file; wait for it, saying so, while another process has it.

    Args:
        path: Lock file; made when absent, and left in place.
        holder: What those who wait are told of us.
        waiting: Called once, with the present holder's words (or ""), when we must wait.
        stop: Ends the waiting.

    Yields:
        Nothing; the lock is held within the block.

    Raises:
        Cancelled: ``stop`` was set while waiting.
        RunError: The lock file cannot be made.
    """
    words = path.with_name(f"{path.name}.holder")
    lock = FileLock(path)
    stop = stop or threading.Event()
    with contextlib.ExitStack() as held:
        told = False
        while True:
            try:
                held.enter_context(lock.acquire(timeout=0))
                break
            except Timeout:
                if not told:
                    waiting(_read(words))
                    told = True
            except OSError as error:
                raise RunError(f"Cannot write in {path.parent} ({error.strerror}).") from error
            if stop.wait(_POLL_S):
                raise Cancelled("Cancelled while waiting.")
        if holder:
            with contextlib.suppress(OSError):
                words.write_text(holder, encoding="utf-8")
            held.callback(words.unlink, missing_ok=True)
        yield


@contextlib.contextmanager
def hold_briefly(path: Path, *, timeout_s: float = 10.0) -> Iterator[None]:
    """Hold a lock file for milliseconds, as a read-modify-write of a small file takes.

    Args:
        path: Lock file; made when absent, and left in place.
        timeout_s: Longest wait for another who holds it.

    Yields:
        Nothing; the lock is held within the block.

    Raises:
        Busy: Another holds it for longer.
        RunError: The lock file cannot be made.
    """
    try:
        lock = FileLock(path).acquire(timeout=timeout_s, poll_interval=0.02)
    except Timeout as error:
        raise Busy(f"Another process has been writing in {path.parent} for {timeout_s:g} s; try again.") from error
    except OSError as error:
        raise RunError(f"Cannot write in {path.parent} ({error.strerror}).") from error
    with lock:
        yield


def is_held(path: Path) -> bool:
    """Whether somebody holds a lock, with words or without.

    Args:
        path: Its file; not made when absent.

    Returns:
        False too where that cannot be found out.
    """
    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def holder_of(path: Path) -> str | None:
    """Who holds a lock.

    Args:
        path: Its file.

    Returns:
        The holder's words, or None when the lock is free. A holder without words is not seen.
    """
    words = _read(path.with_name(f"{path.name}.holder"))
    if not words:
        return None
    try:
        with FileLock(path).acquire(timeout=0):  # words stay where their writer was killed
            return None
    except Timeout:
        return words
    except OSError:
        return None


def device_lock(device: str) -> Path:
    """Lock file of a device, shared by every run of this user on this machine.

    Lies in ``$JEPASCORE_HOME/locks`` or ``~/.jepascore/locks``, whatever folder the runs are in.

    Args:
        device: Such as ``cpu``, ``cuda:0``, or a name that does not depend on which devices are visible.

    Returns:
        Path of the lock; its folder exists.
    """
    folder = Path(os.environ.get("JEPASCORE_HOME") or "~/.jepascore").expanduser() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:  # a home that cannot be written, as in many containers
        folder = Path(tempfile.gettempdir()) / f"jepascore-locks-{getpass.getuser()}"
        folder.mkdir(parents=True, exist_ok=True)
    # a home on a network is shared by machines, their devices are not
    return folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', f'{HOST}-{device}')}.lock"


def _read(path: Path) -> str:
    """Words of a lock's holder, or nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return ""
