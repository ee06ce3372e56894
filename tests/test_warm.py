"""Background imports: once, all of them, whatever fails."""

import importlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jepascore_core.jobs import costs
from pages.components import warm

ROOT = Path(__file__).parent.parent


def test_modules_are_imported_once_and_a_broken_one_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def pretend(name: str) -> None:
        asked.append(name)
        if name == "pages.components.gallery":
            raise ImportError("broken")

    monkeypatch.setattr(warm, "QUIET_S", 0.0)
    monkeypatch.setattr(warm, "_begun", threading.Lock())
    monkeypatch.setattr(importlib, "import_module", pretend)
    monkeypatch.setattr(warm, "_map_torch", lambda: None)
    for _ in range(3):
        warm.warm()
    for thread in threading.enumerate():
        if thread.name == "warm":
            thread.join(10)
    assert len(asked) == len(set(asked)) and asked[-1] == "pages.components.lab_words"
    assert asked.index("pages.components.words") < asked.index("torch") < asked.index("pages.components.lab")
    assert {"pages.components.gallery", "pages.components.new_run", "sklearn.decomposition"} <= set(asked)


def test_imports_wait_until_no_page_was_drawn_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[float] = []
    monkeypatch.setattr(warm, "QUIET_S", 0.3)
    monkeypatch.setattr(warm, "_begun", threading.Lock())
    monkeypatch.setattr(importlib, "import_module", lambda name: moments.append(time.monotonic()))
    monkeypatch.setattr(warm, "_map_torch", lambda: None)
    for _ in range(4):
        warm.warm()
        drawn = time.monotonic()
        time.sleep(0.1)
    for thread in threading.enumerate():
        if thread.name == "warm":
            thread.join(10)
    assert moments and moments[0] >= drawn + 0.29


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what is mapped")
def test_the_libraries_of_torch_are_mapped_before_it_is_imported() -> None:
    code = """
import sys
from pathlib import Path
from pages.components import warm
warm._map_torch()
assert "libtorch_python.so" in Path("/proc/self/maps").read_text() and "torch" not in sys.modules
import torch
assert float(torch.ones(3).sum()) == 3
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(costs._gpu_driver(), reason="torch is asked which GPU a run would take")
def test_pages_that_compute_nothing_do_without_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
from jepascore_core.jobs import costs
from pages.components import warm
warm.warm = lambda: None
costs._start = lambda request, path: None
at = AppTest.from_file({str(ROOT / "app.py")!r}, default_timeout=60).run()
for page in ("score_images", "class_extremes", "sensitivity"):
    at.switch_page(f"pages/{{page}}.py").run()
    assert not at.exception and "torch" not in sys.modules, page
assert any("Start" in button.label for button in AppTest.switch_page(at, "pages/score_images.py").run().button)
"""
    environment = os.environ | {"JEPASCORE_HOME": str(tmp_path), "JEPASCORE_DEMO": "0"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=120)
