"""The choice of an engine on Score images."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core import cluster, jobs
from jepascore_core.store.request import RunRequest

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
ROOT = Path(__file__).parent.parent


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RunRequest]:
    """Requests that the page starts; no process comes of them, nor of their cost."""
    asked: list[RunRequest] = []
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    monkeypatch.setattr(jobs, "start", asked.append)
    monkeypatch.setattr(
        jobs, "estimates", lambda wanted: [jobs.Estimate(request, problem="not now") for request in wanted]
    )
    return asked


def opened() -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    return at.switch_page("pages/score_images.py").run()


def start(at: AppTest) -> None:
    next(button for button in at.button if button.label == "Start").click().run()
    assert not at.exception and not at.error


def test_ray_is_one_choice_away(started: list[RunRequest], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: object())
    at = opened()
    start(at)
    at.segmented_control(key="engine").set_value("ray").run()
    at.number_input(key="workers").set_value(3).run()
    at.text_input(key="address").set_value(" auto ").run()
    start(at)
    local, ray = started
    assert (local.engine, local.address, local.workers) == ("local", None, None)
    assert (ray.engine, ray.address, ray.workers) == ("ray", "auto", 3)
    assert {"--engine=ray", "--address=auto", "--workers=3"} <= set(ray.to_argv())
    at.segmented_control(key="engine").set_value("local").run()
    start(at)
    assert started[-1] == local


def test_without_ray_the_page_says_how_to_get_it(started: list[RunRequest], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    at = opened()
    assert any("pip install -r requirements-cluster.txt" in caption.value for caption in at.caption)
    start(at)
    assert started[0].engine == "local"
