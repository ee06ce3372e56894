"""What goes wrong around a program: a full or read-only disk, rights it lacks, a clock set back, little memory.

Functions are done to a process before its command (``commands.Before``); context managers change the machine for the
length of a block, and raise ``Unavailable`` where this machine does not allow it.
"""

import contextlib
import ctypes
import faulthandler
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_CAPABILITIES = 0x20080522  # version 3 of Linux's interface
_HANGS_S = 60.0
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


class Unavailable(Exception):
    """This machine does not let us arrange that."""


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A disk of its own at a folder.

    Raises:
        Unavailable: We may not mount.
    """
    folder.mkdir(parents=True)
    _ask("mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder)
    try:
        yield
    finally:
        _ask("umount", "--lazy", folder)


def enlarge(folder: Path, kilobytes: int) -> None:
    """Give the disk at a folder more room."""
    _ask("mount", "-o", f"remount,size={kilobytes}k", folder)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing below a folder can be written.

    Raises:
        Unavailable: We may not mount.
    """
    _ask("mount", "--bind", folder, folder)
    try:
        _ask("mount", "-o", "remount,ro,bind", folder)
        yield
    finally:
        _ask("umount", "--lazy", folder)


def bound_by_permissions() -> None:
    """Whoever is root looks past permissions; from here on this process does not."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Sets(ctypes.Structure):
        _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))

    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = Header(_CAPABILITIES, 0), (Sets * 2)()
    if os.geteuid() == 0 and libc.capget(ctypes.byref(header), sets) == 0:
        for number in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            sets[0].effective &= ~(1 << number)
            sets[0].permitted &= ~(1 << number)
        if libc.capset(ctypes.byref(header), sets):
            raise OSError(ctypes.get_errno(), "capset")


def small_files(most_bytes: int) -> None:
    """No file may grow beyond a size: where no small disk can be had, the system refuses a write all the same."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


def little_memory(megabytes: int) -> None:
    """The process may take that much beyond what it has.

    Where memory suffices for a thread's stack and not for its first step, Python waits for that thread for ever: a
    process that is at work after a minute says where, and ends.
    """
    faulthandler.dump_traceback_later(_HANGS_S, exit=True)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def clock_set_back() -> None:
    """The clock goes back by an hour soon after, and by more than a year after that."""
    real, began = time.time, time.monotonic()

    def told() -> float:
        elapsed = time.monotonic() - began
        return real() - (0 if elapsed < 0.5 else 3600 if elapsed < 1.0 else 4e7)

    time.time = told


def many_parts() -> None:
    """Parts of eight rows, however slow the machine is."""
    from jepascore_core.store import part_writer

    part_writer._PART_ROWS, part_writer._FIRST_FLUSH_S = 8, 1000.0


def slowly() -> None:
    """A part for each batch, and a batch takes a fifth of a second."""
    from jepascore_core.runner.scoring import BatchScorer
    from jepascore_core.store import part_writer

    part_writer._FIRST_FLUSH_S = part_writer._FLUSH_S = 0.05
    score = BatchScorer.__call__

    def late(self, batch):
        time.sleep(0.2)
        return score(self, batch)

    BatchScorer.__call__ = late


def _ask(*words: object) -> None:
    """Ask the system for something.

    Raises:
        Unavailable: It refuses, or does not know how.
    """
    try:
        subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise Unavailable(" ".join(said.split())[:200]) from error
