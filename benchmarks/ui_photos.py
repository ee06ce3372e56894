"""LightlyStudio beside ours on one folder of photographs, in one browser, for ``benchmarks.ui``.

Not the same work: LightlyStudio lists the folder and serves the files; its embeddings, which would need a download, are
left out. Ours scores every image first, and shows them in the order of the score with thumbnails that the run stored.
What can be compared is what a reader waits for once the images are in: the first gallery in a fresh browser, a screen
further, the middle of the list, an image opened (ours with its spectrum, for which the browser first loads the charts'
program). LightlyStudio loads its list from the top as one scrolls, so its middle is reached by scrolling on and on, of
which only the waiting counts; ours jumps there.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.async_api import Browser, ElementHandle

from benchmarks.ui_server import ROOT, serve, stop, wait_for
from benchmarks.ui_tab import Seen, Tab, new_tab

TIMES = (
    "index the folder, or score it", "start, the indexing left out", "first gallery", "a screen further",
    "the middle of the list", "open an image, the first", "open another",
)  # fmt: skip
_ENCODER = "demo:jepa-tiny"
_TRIES = 200  # to scroll to the middle
_INDEX_S = 1800
_SERVE = """
import sys, time
import lightly_studio
folder, port = sys.argv[1], int(sys.argv[2])
start = time.perf_counter()
dataset = lightly_studio.ImageDataset.create(name="photos")
dataset.add_images_from_path(path=folder, embed=False)
print(f"indexed in {time.perf_counter() - start:.2f} s", flush=True)
lightly_studio.start_gui(host="127.0.0.1", port=port, open_browser=False)
"""
_SCROLL = "([view, by]) => { __probe.begin = performance.timeOrigin + performance.now(); view.scrollTop += by }"


async def ours(browser: Browser, photos: Path, log: Path) -> dict[str, float]:
    """Score a folder, then the times that a reader waits, s; by the names in ``TIMES``."""
    with tempfile.TemporaryDirectory() as home:
        started = time.monotonic()
        command = [sys.executable, "-m", "jepascore_core", "score", "--dataset", f"folder:{photos}"]
        command += ["--encoder", _ENCODER, "--runs-dir", f"{home}/runs"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        scored = time.monotonic() - started
        with serve(Path(home), log) as server:
            tab = await new_tab(browser, marks=server.marks)
            first = await tab.open(f"{server.url}/class_extremes?view=In+order")
            view = await tab.page.locator(".view").element_handle()
            tiles = tab.page.locator(".field .tile:not(.waiting)")
            rest = await _wander(tab, view, lambda place: tiles.nth(place).click(), jumps=True)
            return dict(zip(TIMES, [scored, server.start_s, first.marks["gallery"], *rest], strict=True))


async def lightly(browser: Browser, photos: Path, python: Path) -> tuple[dict[str, float], str]:
    """Index a folder with LightlyStudio, then the same times, s; and its version.

    Raises:
        RuntimeError: It does not start.
    """
    with _studio(photos, python) as (url, index_s, start_s, version):
        tab = await new_tab(browser, ready="img[draggable=false]", picture="img.sample-image")
        first = await tab.open(url)
        welcome = tab.page.get_by_role("button", name="Dismiss")
        if await welcome.count():
            await tab.do(welcome.click)
        view = await tab.page.get_by_test_id("images-grid").element_handle()
        tiles = tab.page.get_by_test_id("sample-grid-item")
        rest = await _wander(tab, view, lambda place: tiles.nth(place).dblclick(), jumps=False)
        return dict(zip(TIMES, [index_s, start_s, first.marks["gallery"], *rest], strict=True)), version


async def _wander(
    tab: Tab, view: ElementHandle | None, click: Callable[[int], Awaitable[None]], *, jumps: bool
) -> list[float]:
    """Scroll a screen, go to the middle, open an image, and another: s of each."""
    assert view is not None
    screen = await view.evaluate("view => view.clientHeight")
    further = await _scroll(tab, view, screen)
    total = await view.evaluate("view => view.scrollHeight")
    middle = (await _scroll(tab, view, total / 2)).settled_s if jumps else await _scroll_on(tab, view)
    first = await tab.do(lambda: click(4))
    await tab.do(lambda: tab.page.keyboard.press("Escape"))
    another = await tab.do(lambda: click(7))
    return [further.settled_s, middle, first.settled_s, another.settled_s]


async def _scroll(tab: Tab, view: ElementHandle, by: float) -> Seen:
    return await tab.do(lambda: tab.page.evaluate(_SCROLL, [view, by]))


async def _scroll_on(tab: Tab, view: ElementHandle) -> float:
    """Scroll to the end as often as it moves away, until half of the images are loaded; s, waits for calm left out.

    Raises:
        RuntimeError: The middle is never reached.
    """
    words = await tab.page.locator("body").inner_text()
    number = re.search(r"Showing ([\d,]+) images", words)
    wanted = int(number[1].replace(",", "")) / 2 if number else 0.0
    taken = 0.0
    for _ in range(_TRIES):
        seen = await _scroll(tab, view, 1e9)
        taken += max(seen.settled_s, 0)
        if await _loaded(view) >= wanted:
            return taken
    raise RuntimeError("LightlyStudio's list does not reach its middle.")


async def _loaded(view: ElementHandle) -> float:
    """How many images a list has room for by now."""
    count: float = await view.evaluate("""view => {
      const tiles = [...view.querySelectorAll("[data-testid=sample-grid-item]")]
        .map((tile) => tile.getBoundingClientRect())
      const columns = new Set(tiles.map((tile) => Math.round(tile.left))).size
      const tops = [...new Set(tiles.map((tile) => Math.round(tile.top)))].sort((a, b) => a - b)
      return tops.length > 1 ? columns * Math.floor(view.scrollHeight / (tops[1] - tops[0])) : 0
    }""")
    return count


@contextmanager
def _studio(photos: Path, python: Path) -> Iterator[tuple[str, float, float, str]]:
    """A running LightlyStudio: its address, seconds to index and to answer after that, its version."""
    ask = "import importlib.metadata as about; print(about.version('lightly-studio'))"
    version = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        child = subprocess.Popen(
            [python, "-c", _SERVE, str(photos), str(port)], cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | {"LIGHTLY_STUDIO_ANALYTICS_ENABLED": "false"},
        )  # fmt: skip
        try:
            assert child.stdout is not None
            line = next((line for line in child.stdout if line.startswith(b"indexed")), None)
            if line is None:
                raise RuntimeError("LightlyStudio did not index the folder.")
            index_s = float(line.split()[2])
            url = f"http://127.0.0.1:{port}/"
            wait_for(url)
            yield url, index_s, time.monotonic() - started - index_s, version
        finally:
            stop(child)
