"""The galleries in a real browser: keyboard, selection, jumps, size, and what the address remembers."""

import re
import urllib.parse

import pytest

from tests.browsing import App, assert_nothing_wrong, need_chromium, settle, visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
need_chromium()

RUN = "synthetic 0 · set-3000"
IN_ORDER = f"class_extremes?view=In+order&run={urllib.parse.quote_plus(RUN)}"
FOCUSED = """() => {
  let at = document.activeElement
  while (at?.shadowRoot) at = at.shadowRoot.activeElement
  return Number(at?.dataset.place ?? -1)
}"""
VIEW = """
const view = [...document.querySelectorAll("*")].map((node) => node.shadowRoot?.querySelector(".view")).find(Boolean)
const tiles = [...(view?.querySelectorAll(".tile") ?? [])].sort((a, b) => a.dataset.place - b.dataset.place)
"""
COLUMNS = f"() => {{ {VIEW}; return new Set(tiles.map((tile) => tile.getBoundingClientRect().left)).size }}"
IN_SIGHT = f"""() => {{ {VIEW}
  const frame = view?.getBoundingClientRect()
  return tiles.filter((tile) => {{
    const box = tile.getBoundingClientRect()
    return box.bottom > frame.top + 2 && box.top < frame.bottom - 2
  }}).map((tile) => [Number(tile.dataset.place), Boolean(tile.querySelector("img")?.naturalWidth)])
}}"""
OVERLAPS = f"""() => {{ {VIEW}
  const corners = tiles.map((tile) => tile.getBoundingClientRect()).map((box) => [box.left, box.top, box.width])
  return corners.filter(([x, y, side], i) => corners.some(
    ([u, v], j) => j < i && Math.abs(u - x) < side - 1 && Math.abs(v - y) < side - 1)).length
}}"""


@pytest.fixture
def app(filled_app: App) -> App:
    return filled_app


@pytest.fixture
def grid(app: App, tab):
    """A tab with 3,000 images in order, least likely first."""
    visit(tab, app, IN_ORDER)
    tab.locator(".field .tile img").first.wait_for()
    return tab


def tile(tab, place: int):
    return tab.locator(f'.field .tile[data-place="{place}"]:not(.waiting)')


def focused(tab, place: int) -> None:
    """Wait until a tile has the focus."""
    tab.wait_for_function(f"({FOCUSED})() === {place}")


def selected(tab, words: str) -> None:
    """Wait until the bar says how many images are selected."""
    tab.locator(".st-key-selection_bar").get_by_text(words).wait_for()


def query(tab) -> dict[str, list[str]]:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(tab.url).query)


def shows(tab, first: int) -> None:
    """Wait until the grid stands at a place and all that is in sight has its picture."""
    tab.wait_for_function(
        f"() => {{ const seen = ({IN_SIGHT})(); return seen.length && seen[0][0] <= {first} "
        f"&& {first} <= seen.at(-1)[0] && seen.every((tile) => tile[1]) }}"
    )


def test_keys_move_through_the_grid(app: App, grid) -> None:
    columns = grid.evaluate(COLUMNS)
    tile(grid, 0).focus()
    for key, place in (
        ("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowLeft", columns), ("ArrowUp", 0), ("ArrowLeft", 0),
        ("End", 2999), ("ArrowRight", 2999), ("Home", 0),
    ):  # fmt: skip
        grid.keyboard.press(key)
        focused(grid, place)
    grid.keyboard.press("PageDown")
    grid.wait_for_function(f"({FOCUSED})() >= {2 * columns}")
    far = grid.evaluate(FOCUSED)
    assert far % columns == 0
    grid.keyboard.press("PageUp")
    focused(grid, 0)
    assert_nothing_wrong(grid, app)


def test_enter_opens_the_drawer_and_history_leads_through_it(app: App, grid) -> None:
    drawer = grid.get_by_role("dialog")
    tile(grid, 1).focus()
    key = tile(grid, 1).get_attribute("aria-label").split(", ")[-1]
    grid.keyboard.press("Enter")
    drawer.get_by_text(key).first.wait_for()
    settle(grid)
    assert query(grid)["image"] == [key] and query(grid)["view"] == ["In order"]
    grid.keyboard.press("Escape")
    drawer.wait_for(state="hidden")
    grid.wait_for_function("() => !location.search.includes('image=')")
    assert query(grid)["view"] == ["In order"]
    settle(grid)
    grid.go_back()
    drawer.get_by_text(key).first.wait_for()
    settle(grid)
    grid.go_forward()
    drawer.wait_for(state="hidden")
    settle(grid)
    grid.go_back()
    drawer.get_by_text(key).first.wait_for()
    grid.reload()
    drawer.get_by_text(key).first.wait_for()
    assert_nothing_wrong(grid, app)


def test_a_selection_grows_stays_and_is_cleared(app: App, grid) -> None:
    tile(grid, 2).focus()
    grid.keyboard.press("Space")
    selected(grid, "1 image selected")
    tile(grid, 6).click(modifiers=["Shift"])
    selected(grid, "5 images selected")
    assert grid.locator(".field .tile.chosen").count() == 5
    tile(grid, 4).focus()
    grid.keyboard.press("Space")
    selected(grid, "4 images selected")
    assert grid.get_by_role("dialog").count() == 0
    grid.get_by_test_id("stSidebarNav").get_by_role("link", name="Overview").click()
    grid.wait_for_function("() => document.querySelector('h1')?.innerText === 'Overview'")
    settle(grid)
    grid.get_by_test_id("stSidebarNav").get_by_role("link", name="Class extremes").click()
    selected(grid, "4 images selected")
    grid.locator(".st-key-selection_bar").get_by_role("button", name="Clear").click()
    grid.locator(".st-key-selection_bar").wait_for(state="detached")
    settle(grid)
    assert grid.locator(".tile.chosen").count() == 0 and "chosen" not in query(grid)
    assert_nothing_wrong(grid, app)


def test_the_grid_jumps_to_a_rank_and_to_a_percentile(app: App, grid) -> None:
    jump = grid.get_by_label("Go to a rank")
    jump.fill("1 234")
    jump.press("Enter")
    shows(grid, 1233)
    assert "rank 1,234 of 3,000" in re.sub(r"[\u202f\u00a0]", ",", tile(grid, 1233).get_attribute("aria-label"))
    grid.wait_for_url("**at=*")
    settle(grid)
    assert abs(int(query(grid)["at"][0]) - 1234) <= grid.evaluate(COLUMNS)
    jump.fill("97.5 %")
    jump.press("Enter")
    shows(grid, round(0.975 * 2999))
    settle(grid)
    grid.reload()
    shows(grid, round(0.975 * 2999))
    assert_nothing_wrong(grid, app)


def test_the_middle_of_a_long_list_is_filled(app: App, grid) -> None:
    grid.locator(".view").evaluate("view => { view.scrollTop = view.scrollHeight / 2 }")
    shows(grid, 1500)
    places = [place for place, _ in grid.evaluate(IN_SIGHT)]
    assert places == list(range(places[0], places[-1] + 1)), "no gap and no image twice"
    assert grid.locator(".field .tile").count() < 400, "only what is in sight exists"
    assert_nothing_wrong(grid, app)


def test_tiles_follow_the_width_of_the_window(app: App, grid) -> None:
    for width in (1900, 820, 1280):
        grid.set_viewport_size({"width": width, "height": 900})
        grid.wait_for_function(f"({COLUMNS})() {'>' if width > 1280 else '<='} 10")
        shows(grid, 0)
        assert grid.evaluate(OVERLAPS) == 0, f"tiles over one another at {width} px"
    assert_nothing_wrong(grid, app)


def test_the_size_slider_changes_the_tiles_and_the_address(app: App, grid) -> None:
    def side() -> float:
        return tile(grid, 0).bounding_box()["width"]

    before = side()
    grid.get_by_label("Size of the images").fill("200")
    grid.get_by_label("Size of the images").dispatch_event("change")
    grid.wait_for_url("**size=200*")
    settle(grid)
    assert side() > 1.6 * before
    grid.reload()
    tile(grid, 0).wait_for()
    assert side() > 1.6 * before
    assert_nothing_wrong(grid, app)
