"""Many visitors at once, without browsers: ``python -m benchmarks.load``.

Each visitor is a websocket that speaks Streamlit's own protocol, as a browser does: it opens pages, chooses options and
ticks boxes on them, and waits for the end of each run of the script. A rerun's time is that from asking to the frame
that says ``script_finished``. Nothing is drawn, and what a page asks for by itself while it is looked at is not asked.

Every page is opened once before anything is measured. Then a run is scored by itself, with visitors, and by itself
again: what it loses to them is the difference. Then one visitor opens pages a thousand times, and the server's memory
before and after tells of leaks.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks.runner import write_photographs
from benchmarks.speed import RESULTS
from benchmarks.ui_runs import make_run, thumbnails
from benchmarks.ui_server import ROOT, Server, serve
from jepascore_core.versions import versions

_PATIENCE_S = 120.0
_LARGEST_FRAME = 1 << 28
_MEMORY_EVERY_S = 2.0
_VIEWS = 16  # of each photograph, so that a few thousand of them last


@dataclass
class Found:
    """What visitors met.

    Attributes:
        seconds: How long each rerun took.
        pages: Which page it was of.
        errors: What went wrong, in words.
    """

    seconds: list[float] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass
class Visitor:
    """One visitor with a websocket.

    Attributes:
        socket: The websocket.
        found: Where times and errors go.
        dice: Chooses pages and options.
        pages: Hash of each page's script, by its name; known after the first run.
        page: Where the visitor is.
        options: What can be chosen on this page: the states that a click may send.
        states: What was chosen on this page, by widget.
    """

    socket: ClientConnection
    found: Found
    dice: random.Random
    pages: dict[str, str] = field(default_factory=dict)
    page: str = ""
    options: list[WidgetState] = field(default_factory=list)
    states: dict[str, WidgetState] = field(default_factory=dict)

    async def open(self, page: str = "") -> None:
        """Open a page; "" is the one that a first visit shows."""
        self.page, self.options, self.states = page, [], {}
        await self._rerun()

    async def click(self) -> None:
        """Choose an option or tick a box; open another page where there is nothing to choose."""
        if not self.options:
            await self.open(self.dice.choice(sorted(self.pages)))
            return
        chosen = self.dice.choice(self.options)
        self.states[chosen.id] = chosen
        self.options = []
        await self._rerun()

    async def _rerun(self) -> None:
        """Ask for a run of the script and wait for its end."""
        asked = BackMsg()
        asked.rerun_script.page_script_hash = self.pages.get(self.page, "")
        asked.rerun_script.context_info.timezone = "UTC"
        asked.rerun_script.widget_states.widgets.extend(self.states.values())
        began = time.perf_counter()
        await self.socket.send(asked.SerializeToString())
        async with asyncio.timeout(_PATIENCE_S):
            while not self._heard(ForwardMsg.FromString(await self._frame())):
                pass
        self.found.seconds.append(time.perf_counter() - began)
        self.found.pages.append(self.page or "first visit")

    async def _frame(self) -> bytes:
        frame = await self.socket.recv()
        return frame.encode() if isinstance(frame, str) else frame

    def _heard(self, message: ForwardMsg) -> bool:
        """Take note of a frame; True at the end of a run."""
        kind = message.WhichOneof("type")
        if kind == "navigation":
            self.pages = {page.page_name: page.page_script_hash for page in message.navigation.app_pages}
        elif kind == "page_not_found":
            self.found.errors.append(f"{self.page}: there is no such page")
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self._see(message.delta.new_element)
        elif kind == "script_finished":
            if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                self.found.errors.append(f"{self.page}: the script does not compile")
            return message.script_finished in (
                ForwardMsg.FINISHED_SUCCESSFULLY,
                ForwardMsg.FINISHED_WITH_COMPILE_ERROR,
            )
        return False

    def _see(self, element: Element) -> None:
        """Take note of an error, or of something to click."""
        kind = element.WhichOneof("type")
        if kind == "exception":
            self.found.errors.append(f"{self.page}: {element.exception.type}: {element.exception.message}"[:300])
        elif kind == "checkbox" and not element.checkbox.disabled:
            self.options.append(WidgetState(id=element.checkbox.id, bool_value=not element.checkbox.default))
        elif kind == "button_group" and not element.button_group.disabled:
            group = element.button_group
            for option in group.options:
                state = WidgetState(id=group.id)
                state.string_array_value.data.append(option.content)
                self.options.append(state)
        elif kind == "selectbox" and not element.selectbox.disabled:
            box = element.selectbox
            self.options += [WidgetState(id=box.id, string_value=option) for option in box.options[:20]]


@contextlib.asynccontextmanager
async def visitor(server: Server, found: Found, seed: int) -> AsyncIterator[Visitor]:
    """A visitor who has opened the first page."""
    address = f"{server.url.replace('http', 'ws', 1)}/_stcore/stream"
    async with connect(address, max_size=_LARGEST_FRAME, open_timeout=_PATIENCE_S) as socket:
        someone = Visitor(socket, found, random.Random(seed))
        await someone.open()
        yield someone


async def visit(server: Server, found: Found, seed: int, until: float, pause_s: float) -> None:
    """Come, look at pages and click on them until a moment, and go."""
    dice = random.Random(seed)
    try:
        await asyncio.sleep(dice.uniform(0, pause_s))  # nobody comes at the same instant
        async with visitor(server, found, seed) as someone:
            while time.monotonic() < until:
                await pause(someone, dice.uniform(0.5, 1.5) * pause_s)
                if dice.random() < 0.5:
                    await someone.open(dice.choice(sorted(someone.pages)))
                else:
                    await someone.click()
    except (OSError, TimeoutError, WebSocketException) as error:
        found.errors.append(f"{type(error).__name__}: {error}"[:300])


async def pause(someone: Visitor, seconds: float) -> None:
    """Look at the page for a while; what the server sends meanwhile is read."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                someone._heard(ForwardMsg.FromString(await someone._frame()))


async def crowd(server: Server, count: int, seconds: float, pause_s: float, memory: list[dict[str, float]]) -> Found:
    """Many visitors for some time, and the server's memory meanwhile."""
    found, began = Found(), time.monotonic()
    everyone = asyncio.gather(*(visit(server, found, seed, began + seconds, pause_s) for seed in range(count)))
    while not everyone.done():
        memory.append({"s": round(time.monotonic() - began, 1), "mb": round(server.memory()["rss"] / 1e6)})
        await asyncio.sleep(_MEMORY_EVERY_S)
    await everyone
    return found


async def page_views(server: Server, views: int) -> dict[str, Any]:
    """Open pages again and again as one visitor; memory after each tenth of the views."""
    found = Found()
    async with visitor(server, found, 0) as someone:
        names = sorted(someone.pages)
        for name in [*names, *names]:  # everything is imported and every cache filled
            await someone.open(name)
        memory = [{"views": 0, "mb": round(server.memory()["uss"] / 1e6, 1)}]
        for number in range(views):
            await someone.open(names[number % len(names)])
            if (number + 1) % max(1, views // 10) == 0:
                memory.append({"views": number + 1, "mb": round(server.memory()["uss"] / 1e6, 1)})
    return {"views": views, "errors": found.errors, "memory_mb": memory, "times": times(found.seconds)}


@contextlib.contextmanager
def scoring(home: Path, photographs: Path) -> Any:
    """A run that goes on for the length of a block; yields what tells how many images it has scored."""
    command = [
        sys.executable, "-m", "jepascore_core", "score", "--encoder=demo:jepa-tiny", f"--dataset=folder:{photographs}",
        f"--views={_VIEWS}", "--batch-size=2", "--device=cpu", f"--runs-dir={home / 'runs'}",
    ]  # fmt: skip
    before = set((home / "runs").glob("*"))
    with (home / "scoring.log").open("wb") as log:
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"JEPASCORE_HOME": str(home)}
        )

    def scored() -> int:
        for folder in set((home / "runs").glob("*")) - before:
            with contextlib.suppress(OSError, ValueError):
                return int(json.loads((folder / "progress.json").read_text())["done"])
        return 0

    try:
        while not scored():
            if child.poll() is not None:
                raise RuntimeError((home / "scoring.log").read_text()[-500:])
            time.sleep(0.2)
        yield scored, child
    finally:
        child.terminate()
        child.wait(60)


async def measured_rate(scored: Any, seconds: float) -> float:
    """Images per second of the run over some time."""
    first, began = scored(), time.monotonic()
    await asyncio.sleep(seconds)
    return (scored() - first) / (time.monotonic() - began)


def times(seconds: Sequence[float]) -> dict[str, float | int]:
    """How long reruns took."""
    if not seconds:
        return {"reruns": 0}
    p50, p95, most = np.percentile(seconds, [50, 95, 100])
    return {"reruns": len(seconds), "p50_s": round(p50, 3), "p95_s": round(p95, 3), "max_s": round(most, 3)}


def by_page(found: Found) -> dict[str, dict[str, float | int]]:
    """How long reruns took on each page."""
    pages = dict.fromkeys(found.pages)
    return {
        name: times([seconds for seconds, page in zip(found.seconds, found.pages, strict=True) if page == name])
        for name in pages
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything."""
    jpegs = thumbnails()
    for encoder in range(3):
        make_run(folder, options.rows, encoder, jpegs)
    photographs = folder / "photographs"
    photographs.mkdir()
    write_photographs(photographs, options.photographs)
    memory: list[dict[str, float]] = []
    with serve(folder, folder / "server.log") as server:
        await page_views(server, 0)
        with scoring(folder, photographs) as (scored, child):
            before = await measured_rate(scored, options.quiet)
            first, began = scored(), time.monotonic()
            found = await crowd(server, options.visitors, options.seconds, options.pause, memory)
            during = (scored() - first) / (time.monotonic() - began)
            after = await measured_rate(scored, options.quiet)
            whole = child.poll() is None
        views = await page_views(server, options.views)
        log = server.errors()
    return {
        "visitors": options.visitors, "seconds": options.seconds, "pause_s": options.pause, "rows": options.rows,
        "errors": [*found.errors, *log], "times": times(found.seconds), "pages": by_page(found),
        "memory_mb": memory, "page_views": views,
        "scoring": {"images_per_s": {"before": before, "with_visitors": during, "after": after}, "lasted": whole},
    }  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    took, rate, views = result["times"], result["scoring"]["images_per_s"], result["page_views"]
    alone = (rate["before"] + rate["after"]) / 2
    memory = [point["mb"] for point in result["memory_mb"]]
    kept = [point["mb"] for point in views["memory_mb"]]
    rows = [
        ("visitors, each with a click every", f"{result['visitors']}, {result['pause_s']:g} s"),
        ("for", f"{result['seconds'] / 60:.3g} minutes"),
        ("reruns, errors", f"{took['reruns']:,}, {len(result['errors']) + len(views['errors'])}"),
        ("a rerun's time: p50, p95, most", f"{took['p50_s']:.2f} s, {took['p95_s']:.2f} s, {took['max_s']:.1f} s"),
        ("server's memory: at first, most", f"{memory[0]:,.0f} MB, {max(memory):,.0f} MB"),
        (f"after {views['views']:,} page views of one visitor", f"{kept[-1] - kept[0]:+,.0f} MB"),
        ("a run beside it, images/s: alone, with visitors", f"{alone:.3g}, {rate['with_visitors']:.3g}"),
    ]  # fmt: skip
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long they stay")
    parser.add_argument("--pause", type=float, default=10.0, help="mean seconds between two clicks of a visitor")
    parser.add_argument("--quiet", type=float, default=30.0, help="seconds of the run by itself, before and after")
    parser.add_argument("--views", type=int, default=1000, help="page views of one visitor")
    parser.add_argument("--rows", type=int, default=10_000, help="images in each of three runs that are looked at")
    parser.add_argument("--photographs", type=int, default=10_000, help="images of the run that goes on")
    parser.add_argument("--out", type=Path, default=RESULTS / "load.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        result = asyncio.run(measure(options, Path(folder)))
    print(table(result))
    for error in dict.fromkeys([*result["errors"], *result["page_views"]["errors"]]):
        print(f"ERROR  {error}")
    about = {"date": datetime.now(UTC).date().isoformat(), "cores": os.cpu_count(), "versions": versions()}
    options.out.write_text(json.dumps({"environment": about} | result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
