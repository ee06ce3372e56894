"""Background imports: once, all of them, whatever fails."""

import importlib
import threading
import time

import pytest

from pages.components import warm


def test_modules_are_imported_once_and_a_broken_one_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def pretend(name: str) -> None:
        asked.append(name)
        if name == "pages.components.gallery":
            raise ImportError("broken")

    monkeypatch.setattr(warm, "QUIET_S", 0.0)
    monkeypatch.setattr(warm, "_begun", threading.Lock())
    monkeypatch.setattr(importlib, "import_module", pretend)
    for _ in range(3):
        warm.warm()
    for thread in threading.enumerate():
        if thread.name == "warm":
            thread.join(10)
    assert len(asked) == len(set(asked)) and asked[-1] == "jepascore_core.encoders"
    assert {"pages.components.gallery", "pages.components.new_run", "sklearn.decomposition"} <= set(asked)


def test_imports_wait_until_no_page_was_drawn_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[float] = []
    monkeypatch.setattr(warm, "QUIET_S", 0.3)
    monkeypatch.setattr(warm, "_begun", threading.Lock())
    monkeypatch.setattr(importlib, "import_module", lambda name: moments.append(time.monotonic()))
    for _ in range(4):
        warm.warm()
        drawn = time.monotonic()
        time.sleep(0.1)
    for thread in threading.enumerate():
        if thread.name == "warm":
            thread.join(10)
    assert moments and moments[0] >= drawn + 0.29
