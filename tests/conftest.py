"""Fixtures that several test files share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import CHROMIUM, FLAGS, App, complaint, serve

ROOT = Path(__file__).parent.parent
MAIN = sys.modules["__main__"]

if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a core; threads of all of them would fight over it
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait give their core to the other worker


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of research images that are no part of the repository; skips where it is absent."""
    folder = Path(os.environ.get("JEPASCORE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no research images: set JEPASCORE_TEST_DATA or put them in {folder.name}/")
    return folder


@pytest.fixture(scope="session", autouse=True)
def home_of_shared_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that several tests share score something too: they must not wait for a run of that person."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JEPASCORE_HOME", str(tmp_path_factory.mktemp("jepascore-home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_imported_beside_tests() -> None:
    """A page drawn in this process starts no imports in the background, which hold up whatever test comes next."""
    from pages.components import warm

    warm._begun.acquire(blocking=False)


@pytest.fixture(autouse=True)
def pages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page drawn in this process waits for what it shows: nothing here asks it again, as a browser does."""
    from pages.components import prepared

    monkeypatch.setattr(prepared, "PATIENCE_S", 300.0)


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the runs of the person who runs it."""
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path / "jepascore-home"))


@pytest.fixture(autouse=True)
def main_stays() -> Iterator[None]:
    """AppTest leaves its page behind as ``__main__``, which a process that a later test forks would run."""
    sys.modules["__main__"] = MAIN
    yield
    sys.modules["__main__"] = MAIN


@pytest.fixture
def served_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest makes every run a server's very first, in which Streamlit takes ``pages/`` for its old layout."""
    from streamlit.runtime.pages_manager import PagesManager

    first_run = PagesManager.__init__

    def later_run(self: PagesManager, *args: Any, **options: Any) -> None:
        first_run(self, *args, **options)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", later_run)


@pytest.fixture
def nothing_left_at_work() -> Iterator[None]:
    """Pages and jobs start processes of their own; what a test does not wait for ends with it."""
    from jepascore_core import store
    from jepascore_core.jobs import children

    yield
    for child in list(children.children):
        child.kill()
        child.wait()
    children.reap()
    for path in (store.runs_home(None) / ".costs").glob("*.pid"):
        path.unlink()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def tab(app: App, browser: Any) -> Iterator[Any]:
    """A new tab at 1280 px that remembers every error of its console; the module says which ``app``."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page = context.new_page()
    app.console.clear()
    page.set_default_timeout(60_000)
    page.on("console", lambda message: app.console.extend(complaint(message)))
    page.on("pageerror", lambda error: app.console.append(str(error)))
    yield page
    context.close()


@pytest.fixture(scope="session")
def filled_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A dashboard with a few real runs and a synthetic one of 3,000 images."""
    from benchmarks.ui_runs import make_run, thumbnails
    from jepascore_core.runner import score_dataset
    from jepascore_core.store.request import RunRequest

    home = tmp_path_factory.mktemp("filled")
    make_run(home, 3000, 0, thumbnails())
    wanted = (("jepa-tiny-untrained", "photos"), ("jepa-tiny", "digits"), ("jepa-tiny", "photos"))
    for encoder, dataset in wanted:
        request = RunRequest(f"demo:{encoder}", f"demo:{dataset}", per_class=4, batch_size=16, device="cpu")
        score_dataset(request, runs_dir=home / "runs")
    with serve(home, JEPASCORE_DEMO="0") as running:
        yield running


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small lose more to threads that wait for one another than they gain."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the browser test write its screenshots to a folder that a person can leaf through."""
    parser.addoption("--screenshots", type=Path, default=None, help="folder for screenshots of every page")
