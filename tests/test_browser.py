"""The dashboard in a real browser: a first visit with an empty runs folder, then every page.

Nothing may go wrong on the page, in the browser's console or in the server's log, nor may axe-core find anything
serious that is of our making. With ``--screenshots FOLDER`` every page is also kept as a picture, light and dark, at
three widths.
"""

import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jepascore_core.store import Progress
from tests.axe import COLOURS, complaints_now, show_in
from tests.browsing import App, assert_nothing_wrong, need_chromium, serve, settle, visit
from tests.screenshots import take

PAGES = {
    "overview": ("", "Overview"),
    "score_images": ("score_images", "Score images"),
    "class_extremes": ("class_extremes", "Class extremes"),
    "distributions": ("distributions", "Distributions"),
    "singular_vectors": ("singular_vectors", "Singular vectors"),
    "compare_encoders": ("compare_encoders", "Compare encoders"),
    "map": ("map", "Map"),
    "outliers": ("outliers", "Outliers"),
    "curation": ("curation", "Curation"),
    "readiness": ("readiness", "Readiness"),
    "sensitivity": ("sensitivity?view=Label+noise", "Sensitivity"),
    "theory_lab": ("theory_lab", "Theory lab"),
}
VIEWS = {
    "class extremes, in order": ("class_extremes?view=In+order", "Class extremes"),
    "outliers, spectrum": ("outliers?view=Spectrum", "Outliers"),
    "theory lab, grid": ("theory_lab?view=Dimension+×+samples", "Theory lab"),
    "theory lab, views": ("theory_lab?view=Views", "Theory lab"),
}
EMPTY_AT_FIRST = {"score_images", "theory lab, grid", "theory lab, views"}
DEMO_RUNS = 3  # at least: photographs, digits and galaxies

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
need_chromium()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A first visit: nothing has been scored."""
    with serve(tmp_path_factory.mktemp("home")) as running:
        yield running


def test_first_visit_fills_by_itself(app: App, tab) -> None:
    visit(tab, app, "")
    tab.wait_for_selector("button.tile img", timeout=180_000)
    print(f"first thumbnails {time.monotonic() - app.started:.1f} s after the server was up")
    assert_nothing_wrong(tab, app)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        runs = app.runs().values()
        if len(runs) >= DEMO_RUNS and all(run.state == "done" for run in runs) and not app.job_pids():
            break
        time.sleep(1)
    print(f"whole demo {time.monotonic() - app.started:.1f} s after the server was up")
    assert len(runs) >= DEMO_RUNS and all(run.done == run.planned > 0 for run in runs)
    settle(tab)
    assert_nothing_wrong(tab, app)


@pytest.mark.parametrize("name", [*PAGES, *VIEWS])
def test_every_page_in_both_themes(app: App, tab, name: str) -> None:
    path, title = (PAGES | VIEWS)[name]
    schemes = (
        ("light", "dark") if len(name) % 2 else ("dark", "light")
    )  # either is the first that some pages are drawn in
    tab.emulate_media(color_scheme=schemes[0])
    visit(tab, app, path)
    assert tab.inner_text("h1") == title
    if name not in EMPTY_AT_FIRST:
        tab.wait_for_selector("button.tile img, [data-testid=stImage] img, .js-plotly-plot")
    told = []
    for place, scheme in enumerate(schemes):
        show_in(tab, scheme)
        settle(tab)
        background = tab.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
        brightness = sum(int(value) for value in re.findall(r"\d+", background)[:3]) / 3
        assert (brightness > 128) == (scheme == "light")
        assert_nothing_wrong(tab, app)
        told += [f"{scheme}, {found}" for found in complaints_now(tab, COLOURS if place else ())]
    overflow = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page scrolls sideways"
    assert not told, json.dumps(told, indent=1, ensure_ascii=False)


@pytest.mark.timeout(3600)
def test_screenshots(app: App, tab, pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.getoption("--screenshots")
    if not folder:
        pytest.skip("asked for with --screenshots FOLDER")
    files = take(tab, app, folder)
    assert all((folder / name).stat().st_size > 5_000 for name in files)
    assert len(files) >= 6 * len(PAGES)
    assert_nothing_wrong(tab, app)


def test_a_thumbnail_opens_the_inspector_and_leads_to_its_vectors(app: App, tab) -> None:
    visit(tab, app, "class_extremes")
    tile = tab.locator("button.tile").first
    key = tile.get_attribute("aria-label").split(", ")[-1]
    tile.click()
    dialog = tab.locator('[role="dialog"]')
    dialog.get_by_text(key).first.wait_for()
    dialog.get_by_role("link").first.click()
    tab.wait_for_url("**/singular_vectors*")
    settle(tab)
    assert key in tab.inner_text("body")
    assert_nothing_wrong(tab, app)


def test_a_page_is_used_while_what_takes_long_is_computed(app: App, tab) -> None:
    tab.goto(f"{app.url}/curation?splits=50&near=0.99")
    waiting = tab.locator("[class*=st-key-preparing]").get_by_text("Fitting probes on what each rule keeps")
    waiting.wait_for()
    kept = tab.locator(".st-key-card_kept")
    kept.locator("button.tile img").first.wait_for()
    kept.get_by_role("radio", name="75 %").click()
    kept.get_by_text(re.compile("75 % by")).wait_for()
    assert waiting.count() == 1 and "share=75" in urllib.parse.unquote(tab.url)
    waiting.wait_for(state="detached", timeout=120_000)
    settle(tab)
    assert tab.locator(".st-key-card_accuracy .js-plotly-plot").count() == 1
    assert kept.get_by_text(re.compile("75 % by")).count() == 1
    assert_nothing_wrong(tab, app)


def test_the_gallery_works_from_the_keyboard(app: App, tab) -> None:
    visit(tab, app, "class_extremes")
    tiles = tab.locator("button.tile")
    tiles.first.focus()
    tab.keyboard.press("ArrowRight")
    second = tiles.nth(1).get_attribute("aria-label")
    assert tab.evaluate("""() => {
      let at = document.activeElement
      while (at && at.shadowRoot) at = at.shadowRoot.activeElement
      return at.getAttribute('aria-label')
    }""") == second  # fmt: skip
    tab.keyboard.press("Enter")
    tab.locator('[role="dialog"]').get_by_text(second.split(", ")[-1]).first.wait_for()


def test_strips_say_which_end_they_are_where_they_stand_below_one_another(app: App, tab) -> None:
    visit(tab, app, "class_extremes")
    head, over = tab.locator(".head .least"), tab.locator(".row").first.locator(".over.least")
    assert head.first.is_visible() and not over.is_visible()
    tab.set_viewport_size({"width": 820, "height": 900})
    over.wait_for()
    assert not head.first.is_visible() and over.inner_text() == "Least likely"


@pytest.mark.parametrize("name", ["singular_vectors", "map"])
def test_on_a_tablet_figures_stand_one_beneath_the_other(app: App, tab, name: str) -> None:
    tab.set_viewport_size({"width": 820, "height": 900})
    visit(tab, app, name)
    tab.locator(".js-plotly-plot .xtick").first.wait_for()
    settle(tab)
    widths = tab.eval_on_selector_all(".js-plotly-plot", "all => all.map(plot => plot.getBoundingClientRect().width)")
    assert widths and min(widths) > 400
    assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_the_address_restores_the_view(app: App, tab) -> None:
    visit(tab, app, "singular_vectors")
    before = tab.url
    tab.get_by_role("button", name="Less likely").click()
    tab.wait_for_function("before => location.href !== before", arg=before)
    settle(tab)
    address, shown = tab.url, tab.locator('[data-testid="stMain"]').inner_text()
    other = tab.context.new_page()
    other.goto(address)
    settle(other)
    key = re.search(r"key=([^&]+)", address)
    assert key
    assert urllib.parse.unquote(key[1]) in shown
    assert urllib.parse.unquote(key[1]) in other.locator('[data-testid="stMain"]').inner_text()
    assert_nothing_wrong(tab, app)


def drag(tab, start: float, end: float) -> None:
    """Brush a share of the first panel."""
    area = tab.locator(".nsewdrag").first.bounding_box()
    y = area["y"] + 0.3 * area["height"]
    tab.mouse.move(area["x"] + start * area["width"], y)
    tab.mouse.down()
    tab.mouse.move(area["x"] + end * area["width"], y, steps=8)
    tab.mouse.up()


def test_a_brush_and_a_dot_show_images(app: App, tab) -> None:
    visit(tab, app, "distributions")
    chosen = tab.locator(".st-key-card_brushed")
    tab.wait_for_selector(".scatterlayer path.point")
    drag(tab, 0.3, 0.5)
    chosen.get_by_text("Brushed").wait_for()
    tab.wait_for_url("**brush=*")
    settle(tab)
    shown, address = chosen.locator("p").first.inner_text(), tab.url
    other = tab.context.new_page()
    other.goto(address)
    other.locator(".st-key-card_brushed").get_by_text(shown, exact=True).wait_for()
    other.locator(".selectionlayer path").first.wait_for(state="attached")  # the range is marked
    other.close()
    dot = tab.locator(".scatterlayer path.point").nth(30).bounding_box()
    x, y = dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2
    tab.mouse.move(x, y, steps=4)
    tab.locator(".hoverlayer .hovertext").first.wait_for()
    tab.mouse.click(x, y)
    chosen.get_by_text("Nearest in score to the clicked image").wait_for()
    assert "brush=" not in tab.url


def test_circling_dots_of_the_map_shows_their_images(app: App, tab) -> None:
    visit(tab, app, "map")
    tab.get_by_text("Lowest 5 % of the map").wait_for()
    dots = tab.locator(".scatterlayer .point")
    drawn = dots.count()
    assert drawn > 100
    box = tab.locator(".nsewdrag").first.bounding_box()
    left, top = box["x"] + 3, box["y"] + 3
    right, bottom = left + box["width"] - 6, top + box["height"] - 6
    tab.mouse.move(left, top)
    tab.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 20)):
        tab.mouse.move(x, y, steps=4)
    tab.mouse.up()
    told = tab.get_by_text(re.compile("^Circled: "))
    told.wait_for()
    assert re.sub(r"\D", "", told.inner_text()) == str(drawn)
    settle(tab)
    tab.get_by_role("button", name="Clear").click()
    tab.get_by_text("Lowest 5 % of the map").wait_for()
    settle(tab)
    tab.locator('.modebar-btn[data-val="pan"]').click()
    tab.wait_for_timeout(300)
    dots.last.hover(force=True)
    dots.last.click(force=True)
    tab.get_by_text("Around the clicked image: 24 images").wait_for()
    settle(tab)
    assert tab.locator('button.tile[aria-current="true"]').count() == 1
    tab.locator("button.tile").first.click()
    tab.locator('[role="dialog"]').get_by_text("Spectrum").first.wait_for()
    assert_nothing_wrong(tab, app)


def test_one_image_is_scored_in_place(app: App, tab, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    picture = tmp_path / "noise<b>.png"
    Image.fromarray(noise).save(picture)
    visit(tab, app, "score_images")
    tab.get_by_role("tab", name="Try one image").click()
    tab.locator('input[type="file"]').set_input_files(picture)
    tab.get_by_text("percentile").first.wait_for()
    settle(tab)
    assert re.search(r"−?\d+\.\d+", tab.locator('[data-testid="stMetricValue"]').first.inner_text())
    assert_nothing_wrong(tab, app)


def test_a_dot_shows_its_image_and_a_box_all_of_them(app: App, tab) -> None:
    visit(tab, app, "compare_encoders")
    area = tab.locator("[class*=st-key-scatter_] .nsewdrag").first
    area.scroll_into_view_if_needed()
    tab.wait_for_function("document.querySelector('[class*=st-key-scatter_] .points path')")
    dot = tab.locator("[class*=st-key-scatter_] .points path").first.bounding_box()
    tab.mouse.move(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    picture = tab.locator(".jepascore-hover:popover-open img")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    tab.mouse.click(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    tab.locator('[role="dialog"]').get_by_text("nats").first.wait_for()
    tab.keyboard.press("Escape")
    tab.locator('[role="dialog"]').wait_for(state="detached")
    settle(tab)
    box = area.bounding_box()
    tab.mouse.move(box["x"] + 5, box["y"] + 5)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5)
    tab.mouse.up()
    chosen = tab.locator("[class*=st-key-card_selected]")
    chosen.get_by_text(re.compile(r"Selected: \d+ images")).wait_for()
    chosen.locator("button.tile img").first.wait_for()
    assert "box=" in tab.url
    assert_nothing_wrong(tab, app)


def test_a_broken_upload_is_one_sentence(app: App, tab, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    visit(tab, app, "score_images")
    tab.get_by_role("tab", name="Try one image").click()
    tab.locator('input[type="file"]').set_input_files(broken)
    alert = tab.locator('[data-testid="stAlert"]').first
    alert.wait_for()
    assert alert.locator("p").all_inner_texts() == ["Not an image that can be read."]
    assert "Traceback" not in tab.inner_text("body")


def test_a_run_is_started_followed_and_survives_a_reload(app: App, tab, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "only class"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    (folder / "broken.jpg").write_bytes(b"not a picture")
    before = app.runs()
    visit(tab, app, "score_images")
    datasets = tab.locator('[data-testid="stMultiSelect"]').nth(1)
    datasets.locator("input").click()
    tab.keyboard.press("Backspace")
    tab.keyboard.type(f"folder:{tmp_path / 'pictures'}")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Escape")
    settle(tab)
    tab.get_by_role("button", name=re.compile("^(play_arrow )?(Start|Score)", re.IGNORECASE)).first.click()
    tab.locator("[class*=st-key-job_], .st-key-arriving").filter(has_text="pictures").first.wait_for(timeout=60_000)
    tab.reload()
    deadline = time.monotonic() + 120
    new: list[Progress] = []
    while time.monotonic() < deadline:
        new = [run for name, run in app.runs().items() if name not in before]
        if new and new[0].state == "done":
            break
        time.sleep(1)
    assert [(run.state, run.done, run.failed) for run in new] == [("done", 24, 1)]
    tab.get_by_text("pictures").first.wait_for()
    settle(tab)
    assert_nothing_wrong(tab, app)


def test_a_report_opens_by_itself(app: App, tab, tmp_path: Path) -> None:
    visit(tab, app, "distributions")
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Report").click()
    report = tmp_path / "report.html"
    download.value.save_as(report)
    assert_nothing_wrong(tab, app)
    asked, told = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: told.append(message.text))
    colours = set()
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        tab.goto(report.as_uri())
        colours.add(tab.evaluate("getComputedStyle(document.querySelector('figure text')).stroke"))
        assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert len(colours) == 2, "the figures follow the theme"
    assert tab.inner_text("h1").startswith("JEPA-SCORE of photos, digits")
    assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert tab.locator("figure svg").count() == 3
    assert {url.split(":")[0] for url in asked} <= {"file", "data"} and not told
    pdf = tab.pdf(format="A4")
    assert pdf.startswith(b"%PDF-") and 2 <= len(re.findall(rb"/Type /Page\b", pdf)) <= 12


def test_the_figure_for_print_is_downloaded(app: App, tab, tmp_path: Path) -> None:
    visit(tab, app, "class_extremes")
    tab.get_by_role("button", name="Export figure").click()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="PDF").click()
    assert download.value.suggested_filename == "class-extremes.pdf"
    download.value.save_as(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF-")
    assert_nothing_wrong(tab, app)
