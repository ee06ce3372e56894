"""LightlyStudio beside ours on one folder of photographs, in one browser, for ``benchmarks.ui``.

Not the same work: LightlyStudio lists the folder and serves the files; its embeddings, which would need a download, are
left out. Ours shows the images in the order of their score, which had to be computed first, with thumbnails stored by
that run. What is compared is what a reader waits for once the images are in: the first gallery, a screen further, the
middle of the list, one image opened. LightlyStudio loads its list from the top as one scrolls; ours jumps.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, ElementHandle

from benchmarks.ui_server import ROOT, serve, stop, wait_for
from benchmarks.ui_tab import Seen, Tab, new_tab

TIMES = ("make ready", "start", "first gallery", "a screen further", "the middle of the list", "open an image")
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


async def ours(browser: Browser, photos: Path, home: Path, log: Path) -> dict[str, float]:
    """Score a folder unless that is done, then the times that a reader waits, s."""
    started = time.monotonic()
    command = [sys.executable, "-m", "jepascore_core", "score", "--encoder", _ENCODER, "--dataset", f"folder:{photos}"]
    subprocess.run([*command, "--runs-dir", str(home / "runs")], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    scored = time.monotonic() - started
    with serve(home, log) as server:
        tab = await new_tab(browser)
        address = f"{server.url}/class_extremes?view=In+order"
        first = await tab.open(address)
        view = await tab.page.locator(".view").element_handle()
        tile = tab.page.locator(".field .tile:not(.waiting)").nth(4)
        found = {"make ready": scored, "start": server.start_s, "first gallery": first.marks["gallery"]}
        return found | await _wander(tab, view, tile.click, jumps=True)


async def lightly(browser: Browser, photos: Path, python: Path) -> tuple[dict[str, float], str]:
    """Index a folder with LightlyStudio, then the same times, s; and its version.

    Raises:
        RuntimeError: It does not start.
    """
    with _studio(photos, python) as (url, index_s, start_s, version):
        tab = await new_tab(browser, ready="img", picture="img.sample-image")
        first = await tab.open(url)
        welcome = tab.page.get_by_role("button", name="Dismiss")
        if await welcome.count():
            await tab.do(welcome.click)
        view = await tab.page.get_by_test_id("images-grid").element_handle()
        tile = tab.page.get_by_test_id("sample-grid-item").nth(4)
        found = {"make ready": index_s, "start": start_s, "first gallery": first.marks["gallery"]}
        return found | await _wander(tab, view, tile.dblclick, jumps=False), version


async def _wander(tab: Tab, view: ElementHandle | None, click: Callable[[], Any], *, jumps: bool) -> dict[str, float]:
    """Scroll a screen, go to the middle, open an image."""
    assert view is not None
    screen = await view.evaluate("view => view.clientHeight")
    further = await _scroll(tab, view, screen)
    total = await view.evaluate("view => view.scrollHeight")
    middle = await _scroll(tab, view, total / 2) if jumps else await _scroll_on(tab, view)
    opened = await tab.do(click)
    return {
        "a screen further": further.settled_s,
        "the middle of the list": middle.settled_s if isinstance(middle, Seen) else middle,
        "open an image": opened.settled_s,
    }


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
            indexed = time.monotonic()
            url = f"http://127.0.0.1:{port}/"
            wait_for(url)
            yield url, float(line.split()[2]), time.monotonic() - indexed, version
        finally:
            stop(child)
