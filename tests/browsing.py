"""A running dashboard and a real Chromium, for the tests that drive them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jepascore_core.store import Progress, list_runs

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class App:
    """A running dashboard with a runs folder of its own."""

    url: str
    home: Path
    log: Path
    started: float
    console: list[str] = field(default_factory=list)

    def runs(self) -> dict[str, Progress]:
        """How far each run is, by name."""
        return {run.name: run.progress() for run in list_runs(self.home / "runs")}

    def job_pids(self) -> list[int]:
        """Processes that the dashboard started."""
        found = []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = process.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"jepascore_core" in words and any(str(self.home).encode() in word for word in words):
                found.append(int(process.parent.name))
        return found


def need_chromium() -> None:
    """Skip the module where there is no Chromium; fail where ``JEPASCORE_REQUIRE_BROWSER`` is set."""
    if not CHROMIUM:
        reason = "no Chromium on this machine (apt install chromium)"
        if os.environ.get("JEPASCORE_REQUIRE_BROWSER"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason, allow_module_level=True)


@contextmanager
def serve(home: Path, **variables: str) -> Iterator[App]:
    """A dashboard on a folder that holds ``runs``; it ends with all that it started."""
    log = home / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", f"--server.port={port}"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STREAMLIT_")}
    environment |= {"JEPASCORE_HOME": str(home), **variables}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    url = f"http://localhost:{port}"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                break
        except OSError:
            time.sleep(0.2)
    app = App(url, home, log, time.monotonic())
    try:
        yield app
    finally:
        process.terminate()
        process.wait(timeout=30)
        for pid in app.job_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def complaint(message) -> list[str]:
    """What a console message complains of; nothing for Streamlit's search for its own base path."""
    where = message.location["url"]
    return [f"{message.text} ({where})"] if message.type == "error" and "/_stcore/" not in where else []


def settle(page) -> None:
    """Wait until the page has been drawn, with all that is computed beside it, and the server is idle."""
    page.wait_for_selector("h1")
    page.wait_for_function("!document.querySelector('[data-testid=stApp][data-test-script-state=running]')")
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton], [class*=st-key-preparing]')")
    page.wait_for_timeout(400)


def visit(page, app: App, path: str) -> None:
    page.goto(f"{app.url}/{path}")
    settle(page)


def assert_nothing_wrong(page, app: App) -> None:
    """No error on the page, in the console, or in the server's log."""
    assert page.locator('[data-testid="stException"]').count() == 0
    alerts = page.locator('[data-testid="stAlertContentError"]').all_inner_texts()
    assert not alerts
    assert "Traceback" not in page.inner_text("body")
    assert not app.console
    assert not re.findall(r"Traceback|^.*\bERROR\b.*$|^.*exception.*$", app.log.read_text(), re.MULTILINE)
