"""Processes of our own command line, each in a session of its own: a closed dashboard does not end them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jepascore_core.files import read_json, write_json
from jepascore_core.processes import identity, is_alive

children: list[subprocess.Popen[bytes]] = []  # ours, to be reaped: a zombie keeps its process id


def command_line(arguments: Sequence[str]) -> list[str]:
    """Command line of ``python -m jepascore_core``.

    Args:
        arguments: What comes behind it.

    Returns:
        All words.
    """
    return [sys.executable, "-m", "jepascore_core", *arguments]


def start_child(argv: Sequence[str], log: Path) -> int:
    """Start a process that outlives this one.

    Args:
        argv: As ``command_line`` gives it.
        log: File for all that it prints.

    Returns:
        Its process id.

    Raises:
        OSError: It cannot be started, or the log not be written.
    """
    # also found when the current folder is not the project's, and not hidden by a stale installed copy
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    with log.open("wb") as sink:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # closing the dashboard's terminal does not end it
            # threads that spin long while they wait take the cores from the dashboard and from each other; ones that
            # sleep at once are late for the next product, so they spin for about 0.1 ms (of GNU's OpenMP)
            env={"GOMP_SPINCOUNT": "10000", **os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    children.append(child)
    return child.pid


def reap() -> None:
    """Take leave of children that have ended."""
    children[:] = [child for child in children if child.poll() is None]


def mark(path: Path, pid: int) -> None:
    """Write down which process makes a file.

    Args:
        path: The file; the mark lies beside it and ends in ``.pid``.
        pid: The process.

    Raises:
        OSError: The mark cannot be written.
    """
    write_json(path.with_suffix(".pid"), {"pid": pid, "process": identity(pid)}, durable=False)


def alive(path: Path) -> bool:
    """Whether the process that makes a file is at work.

    Args:
        path: The file.

    Returns:
        True when it was marked and runs.
    """
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        data = read_json(path.with_suffix(".pid"))
        return is_alive(int(data["pid"]), data["process"])
    return False


def at_work(folder: Path) -> list[Path]:
    """Marks of the processes in a folder that are at work.

    Args:
        folder: The folder.

    Returns:
        Paths that end in ``.pid``.
    """
    return [path for path in folder.glob("*.pid") if alive(path)]
