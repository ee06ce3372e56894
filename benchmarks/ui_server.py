"""A dashboard in a process of its own, for ``benchmarks.ui``."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
_START_S = 60


@dataclass(frozen=True)
class Server:
    """A dashboard that answers.

    Attributes:
        url: Where it answers.
        process: Its process.
        log: What it wrote so far.
        marks: What its clock has noted; see ``ui_clock``.
        start_s: Seconds from starting the process to the first answer; no page has been drawn by then.
    """

    url: str
    process: psutil.Process
    log: Path
    marks: Path
    start_s: float

    def memory(self) -> dict[str, int]:
        """Bytes in memory: all resident ones (rss), and those that no other process shares (uss)."""
        found = self.process.memory_full_info()
        return {"rss": found.rss, "uss": found.uss}

    def errors(self) -> list[str]:
        """Lines of the log that tell of an error."""
        return re.findall(r"^.*(?:Traceback|\bERROR\b).*$", self.log.read_text(), re.MULTILINE)


@contextmanager
def serve(home: Path, log: Path) -> Iterator[Server]:
    """Start a dashboard on a folder that holds ``runs``, and stop it with all it started.

    Raises:
        TimeoutError: It does not answer within a minute.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # compiled once and kept, as on anyone's machine
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMLIT_", "PYTHONDONT"))}
    marks = log.with_suffix(".marks")
    marks.write_bytes(b"")
    command = [sys.executable, "-m", "benchmarks.ui_clock", str(marks), "run", "app.py"]
    command += ["--server.headless=true", f"--server.port={port}"]
    started = time.monotonic()
    with log.open("wb") as sink:
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT,
            env=kept | {"JEPASCORE_HOME": str(home), "JEPASCORE_DEMO": "0"},
        )  # fmt: skip
    process = psutil.Process(child.pid)
    try:
        url = f"http://localhost:{port}"
        wait_for(f"{url}/_stcore/health")
        yield Server(url, process, log, marks, time.monotonic() - started)
    finally:
        stop(child)


def wait_for(address: str, seconds: float = _START_S) -> None:
    """Wait until an address answers.

    Raises:
        TimeoutError: It does not.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(address, timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"{address} does not answer after {seconds} s.")


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a process that we started, and what it started."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(child.pid).children(recursive=True):
            process.terminate()
    child.terminate()
    try:
        child.wait(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
