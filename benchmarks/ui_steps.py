"""What ``benchmarks.ui`` clicks on: on every page what it finds there, and on known pages what a reader would do."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Locator, Page
from playwright.async_api import TimeoutError as TooSlow

from benchmarks.ui_tab import Seen, Tab, Unsettled

MOST_OPTIONS = 6  # of one row of choices
QUIET = ("Score images", "Theory lab")  # a click there starts work that goes on; they are only opened
_WAIT_MS = 20_000
_SCROLL = """([node, share]) => {
  __probe.begin = performance.timeOrigin + performance.now()
  node.scrollTop = share * node.scrollHeight
}"""

Act = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Taken:
    """One measured action.

    Attributes:
        page: Title of the page.
        action: What was done.
        turn: Which time, from 0.
        seen: What it took.
    """

    page: str
    action: str
    turn: int
    seen: Seen


async def titles(page: Page) -> list[str]:
    """Titles of the dashboard's pages, from its own navigation."""
    return [text.strip() for text in await _links(page).all_inner_texts()]


async def addresses(page: Page) -> list[str]:
    """Addresses of the same pages."""
    return [str(await link.evaluate("link => link.href")) for link in await _links(page).all()]


async def walk(tab: Tab, repeats: int) -> AsyncIterator[Taken]:
    """Every page of the dashboard in turn, opened by its link, and what can be clicked there.

    Args:
        tab: Shows a page of the dashboard.
        repeats: How often each action is taken, on another image each time.

    Yields:
        Each action as it is done; one that found nothing to click is left out.
    """
    names = await titles(tab.page)
    for turn in range(2):
        for place in [*range(1, len(names)), 0]:
            try:
                yield Taken(names[place], "open", turn, await tab.do(_links(tab.page).nth(place).click))
            except (TooSlow, Unsettled) as error:
                tab.errors.append(f"{names[place]}, open: {str(error).splitlines()[0]}")
    for place, name in enumerate(names):
        if name in QUIET:
            continue
        for steps in (_choices, _inspect, _scores, *KNOWN.get(name, ())):
            try:
                await tab.do(_links(tab.page).nth(place).click)
                async for taken in steps(tab, name, repeats):
                    yield taken
            except (TooSlow, Unsettled) as error:
                tab.errors.append(f"{name}, {steps.__name__}: {str(error).splitlines()[0]}")


async def _choices(tab: Tab, name: str, repeats: int) -> AsyncIterator[Taken]:
    """Every other choice of the page's rows of choices, then back to the first."""
    rows = tab.page.get_by_test_id("stMain").get_by_test_id("stButtonGroup")
    for row in range(await rows.count()):
        options = rows.nth(row).get_by_role("radio")
        words = [text.strip() for text in await options.all_inner_texts()][:MOST_OPTIONS]
        for option in [*range(1, len(words)), 0][: len(words)]:
            if await options.nth(option).count():
                yield Taken(name, f"choose “{words[option]}”", 0, await tab.do(options.nth(option).click))


async def _inspect(tab: Tab, name: str, repeats: int) -> AsyncIterator[Taken]:
    """Open an image in the drawer, look at its parts, step on, close."""
    tiles = tab.page.locator("button.tile:not([disabled])")
    if not await tiles.count():
        return
    drawer = tab.page.get_by_role("dialog")
    for turn in range(repeats):
        yield Taken(name, "open an image", turn, await tab.do(tiles.nth(2 * turn).click))
        await drawer.wait_for(timeout=_WAIT_MS)
        step = drawer.get_by_role("button", name="More likely")
        if await step.is_enabled():
            yield Taken(name, "its neighbour in the order", turn, await tab.do(step.click))
        parts = drawer.get_by_test_id("stButtonGroup").get_by_role("radio")
        for part in ("Neighbours", "Encoders", "Origin"):
            chosen = parts.filter(has_text=part)
            if await chosen.count() and name == "Class extremes":
                yield Taken(name, f"its {part.lower()}", turn, await tab.do(chosen.click))
        yield Taken(name, "close it", turn, await tab.do(_key(tab, "Escape")))
        await drawer.wait_for(state="hidden", timeout=_WAIT_MS)


async def _scores(tab: Tab, name: str, repeats: int) -> AsyncIterator[Taken]:
    """Other conventions of the score."""
    chip = tab.page.locator(".st-key-chip_Score").get_by_role("button")
    if not await chip.count():
        return
    for rule in ("Sphere", "Corrected", "Listing 1", "Raw"):
        await chip.first.click()
        option = tab.page.get_by_test_id("stRadio").locator("label").filter(has_text=re.compile(f"^{rule}"))
        await option.first.wait_for(timeout=_WAIT_MS)
        yield Taken(name, f"score “{rule}”", 0, await tab.do(option.first.click))
        await tab.page.keyboard.press("Escape")


async def _in_order(tab: Tab, name: str, repeats: int) -> AsyncIterator[Taken]:
    """The grid of all images: scroll, jump, page, select, open."""
    view = tab.page.get_by_test_id("stButtonGroup").get_by_role("radio")
    yield Taken(name, "in order", 0, await tab.do(view.filter(has_text="In order").click))
    grid = tab.page.locator(".view")
    for turn, share in enumerate((0.5, 0.25, 0.8)[:repeats]):
        handle = await grid.element_handle()
        scroll = _call(tab.page.evaluate, _SCROLL, [handle, share])
        action = "in order: scroll to the middle" if share == 0.5 else "in order: scroll elsewhere"
        yield Taken(name, action, turn, await tab.do(scroll))
    jump = tab.page.locator("input.jump")
    for turn, (action, text) in enumerate((("a rank", "4321"), ("a percentile", "97.5 %"))):
        await jump.fill(text)
        yield Taken(name, f"in order: go to {action}", turn, await tab.do(_call(jump.press, "Enter")))
    for turn in range(repeats):
        forward = tab.page.get_by_role("button", name="Page back")
        yield Taken(name, "in order: page back", turn, await tab.do(forward.click))
    tiles = tab.page.locator(".field .tile:not(.waiting)")
    for turn in range(repeats):
        mark = tiles.nth(2 * turn + 1).locator(".mark")
        yield Taken(name, "in order: select an image", turn, await tab.do(_call(mark.click, force=True)))
    clear = tab.page.get_by_role("button", name="Clear")
    if await clear.count():
        yield Taken(name, "in order: clear the selection", 0, await tab.do(clear.click))
    for turn in range(repeats):
        yield Taken(name, "in order: open an image", turn, await tab.do(tiles.nth(turn).click))
        yield Taken(name, "in order: close it", turn, await tab.do(_key(tab, "Escape")))
    yield Taken(name, "extremes again", 0, await tab.do(view.filter(has_text="Extremes").click))


async def _brush(tab: Tab, name: str, repeats: int) -> AsyncIterator[Taken]:
    """Drag across the first chart."""
    chart = tab.page.locator(".js-plotly-plot .nsewdrag").first
    for turn in range(repeats):
        await chart.scroll_into_view_if_needed()
        box = await chart.bounding_box()
        if box is None:
            return
        left, y = box["x"] + box["width"] * (0.3 + 0.05 * turn), box["y"] + box["height"] / 2

        async def drag(left: float = left, y: float = y, width: float = box["width"]) -> None:
            await tab.page.mouse.move(left, y)
            await tab.page.mouse.down()
            await tab.page.mouse.move(left + 0.1 * width, y, steps=4)
            await tab.page.evaluate("__probe.begin = null")  # the click ends where the button is let go
            await tab.page.evaluate("__probe.begin = performance.timeOrigin + performance.now()")
            await tab.page.mouse.up()

        yield Taken(name, "brush a range", turn, await tab.do(drag))


async def _next_image(tab: Tab, name: str, repeats: int) -> AsyncIterator[Taken]:
    """The next image by its button."""
    for turn in range(repeats):
        for words in ("Less likely", "More likely"):
            button = tab.page.get_by_test_id("stMain").get_by_role("button", name=words)
            if await button.count() and await button.first.is_enabled():
                yield Taken(name, "the next image", turn, await tab.do(button.first.click))
                break


Steps = Callable[[Tab, str, int], AsyncIterator[Taken]]
KNOWN: dict[str, Sequence[Steps]] = {
    "Class extremes": (_in_order,),
    "Distributions": (_brush,),
    "Singular vectors": (_next_image,),
}


async def all_at_once(tabs: Sequence[Tab], rounds: int) -> list[Seen]:
    """Every tab clicks at the same moment on something else: images, their parts, the grid.

    Args:
        tabs: Each shows the class extremes.
        rounds: How often.

    Returns:
        What each click took.
    """
    found: list[Seen] = []
    for turn in range(rounds):
        opened = await asyncio.gather(
            *(tab.do(tab.page.locator("button.tile").nth(3 * place + turn).click) for place, tab in enumerate(tabs))
        )
        parts = ("Neighbours", "Encoders", "Origin", "Spectrum")
        seen = await asyncio.gather(*(
            tab.do(_part(tab, parts[(place + turn) % 3]).click) for place, tab in enumerate(tabs)
        ))  # fmt: skip
        closed = await asyncio.gather(*(tab.do(_key(tab, "Escape")) for tab in tabs))
        words = "In order" if turn % 2 == 0 else "Extremes"
        option = [tab.page.get_by_test_id("stButtonGroup").get_by_role("radio").filter(has_text=words) for tab in tabs]
        turned = await asyncio.gather(*(tab.do(view.click) for tab, view in zip(tabs, option, strict=True)))
        found += [*opened, *seen, *closed, *turned]
    return found


def _part(tab: Tab, name: str) -> Locator:
    return tab.page.get_by_role("dialog").get_by_test_id("stButtonGroup").get_by_role("radio").filter(has_text=name)


def _links(page: Page) -> Locator:
    return page.get_by_test_id("stSidebarNavLink")


def _key(tab: Tab, key: str) -> Act:
    return _call(tab.page.keyboard.press, key)


def _call(function: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Act:
    return lambda: function(*arguments, **options)
