"""Fixtures that several test files share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

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


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the runs of the person who runs it."""
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path / "jepascore-home"))


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
