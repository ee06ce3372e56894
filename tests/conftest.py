"""Fixtures that several test files share."""

import os
from pathlib import Path

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


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the runs of the person who runs it."""
    monkeypatch.setenv("JEPASCORE_HOME", str(tmp_path / "jepascore-home"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the browser test write its screenshots to a folder that a person can leaf through."""
    parser.addoption("--screenshots", type=Path, default=None, help="folder for screenshots of every page")
