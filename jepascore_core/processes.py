"""Processes: whether one that wrote down its name still runs, and how one is asked to stop."""

import contextlib
import math
import platform
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

HOST = platform.node()
_LOOK_S = 0.05  # between two looks at an event that a signal may set
_SAME_S = 2.0  # creation times are told in ticks and drift a little when the clock is set


def identity(pid: int) -> str | None:
    """Name one life of a process id, so that a reused id is not mistaken for it.

    On Linux this is the boot and the tick at which the process began, which setting the clock does
    not move; elsewhere it is the creation time in seconds.

    Args:
        pid: Process id on this machine.

    Returns:
        The name, or None when no such process runs (a zombie does not).
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        with contextlib.suppress(OSError, IndexError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            # the command's name, in parentheses, may hold spaces: count fields after its end
            tick = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
            return f"{boot}:{tick}"
        return f"{process.create_time():.2f}"
    except (psutil.Error, OSError, ValueError, OverflowError):
        return None


def age_s() -> float:
    """Seconds since this process was started, at least 0."""
    return max(0.0, time.time() - psutil.Process().create_time())


def die_first() -> None:
    """Ask Linux to end this process before others where memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def is_alive(pid: int, name: str | None) -> bool:
    """Whether a process of this machine still lives the life that ``identity`` named.

    Args:
        pid: Process id.
        name: What ``identity`` said when the id was written down; None accepts any life.

    Returns:
        True when it runs.
    """
    now = identity(pid)
    if now is None or name is None or now == name:
        return now is not None
    with contextlib.suppress(ValueError):
        return abs(float(now) - float(name)) < _SAME_S
    return False


class SignalEvent(threading.Event):
    """An event that a signal handler may set at any instant.

    ``threading.Event.set`` takes a lock that the code which it interrupts may hold (that may be waiting for
    the event, or be handling another signal), and would then wait for ever. Here nobody takes a lock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._told

    def set(self) -> None:
        """Set it; those who wait notice within a few hundredths of a second."""
        self._told = True

    def clear(self) -> None:
        """Unset it."""
        self._told = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set.

        Args:
            timeout: Most seconds; None waits for ever.

        Returns:
            Whether it is set.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self._told and (left := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left))
        return self._told


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn SIGTERM and the first Ctrl-C into an event; a second Ctrl-C interrupts at once.

    Outside of the main thread, where handlers cannot be set, no signal sets the event.

    Yields:
        The event; work that is asked to stop looks at it.

    Raises:
        KeyboardInterrupt: Ctrl-C came again.
    """
    stop = SignalEvent()

    def handle(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
