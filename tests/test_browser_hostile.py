"""Every page in a real browser on a home whose every name is an attack: nothing of it becomes an element."""

from collections.abc import Iterator

import pytest

from tests.browsing import App, need_chromium, serve, settle, visit
from tests.hostile import EVIL, hostile_home

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
need_chromium()

PATHS = (
    "", "score_images", "distributions", "singular_vectors", "compare_encoders", "map?colour=Class", "outliers",
    "curation", "readiness", "sensitivity?view=Leave+one+class+out", "theory_lab?view=Dimension+%C3%97+samples",
    "class_extremes",
)  # fmt: skip
INJECTED = """() => {
  const bad = 'img[src="x"], img[src*="evil.invalid"], [onerror], [onload], a[href^="javascript:" i], ' +
    'a[href*="//evil.invalid" i], iframe:not([srcdoc]):not([data-testid])'
  const found = window.wasHacked ? ["ran"] : []
  const look = root => {
    root.querySelectorAll(bad).forEach(one => found.push(one.outerHTML.slice(0, 200)))
    root.querySelectorAll("script").forEach(one => one.textContent.includes("hacked()") && found.push("script"))
    root.querySelectorAll('[data-testid="stIconMaterial"]').forEach(
      one => one.textContent.includes("bug_report") && found.push("icon"))
    root.querySelectorAll(".katex annotation").forEach(
      one => ["y", "x^2"].includes(one.textContent.trim()) && found.push("formula"))
    root.querySelectorAll("*").forEach(one => one.shadowRoot && look(one.shadowRoot))
  }
  look(document)
  return found
}"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("hostile")
    hostile_home(home)
    with serve(home, JEPASCORE_DEMO="0") as running:
        yield running


def test_no_name_becomes_an_element(app: App, tab) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.add_init_script("window.hacked = () => { window.wasHacked = true }")
    seen = ""
    for path in PATHS:
        visit(tab, app, path)
        assert tab.evaluate(INJECTED) == [], path
        told = tab.inner_text("body")
        assert str(app.home) not in told, path
        seen += told
        assert tab.locator('[data-testid="stException"]').count() == 0
        assert not app.console, path
    tab.locator("button.tile").first.click()
    tab.locator('[role="dialog"]').get_by_text("Spectrum").first.wait_for()
    settle(tab)
    assert tab.evaluate(INJECTED) == [] and not app.console
    assert EVIL[0][:8] in seen and EVIL[1][:8] in seen, "names are shown as they are"
    assert not [url for url in asked if "evil.invalid" in url]
    assert "Traceback" not in app.log.read_text()
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=hacked()>')")
    tab.wait_for_function("window.wasHacked")
    assert len(tab.evaluate(INJECTED)) == 2, "an injected element would have been found"
