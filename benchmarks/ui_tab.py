"""A browser's tab that measures what happens in it, for ``benchmarks.ui``.

Two clocks: the page notes when it was clicked and when it was last unfinished (``ui_probe.js``); the server notes when
it was asked for a run of the script and when it queued ``script_finished`` (``ui_clock.py``). A click's *server time*
is the time between the two, added up where one click asks for several runs: where something takes long, the first run
answers with the rest of the page, some look how far it is, and the last one draws it. What is computed beside the page
counts as time to the settled view. The browser's network log tells what is still under way, and how much is sent.
"""

import asyncio
import base64
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from playwright.async_api import Browser, ConsoleMessage, Page
from playwright.async_api import TimeoutError as PlaywrightTimeout
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.ui_clock import Mark, read_marks, spans

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
VIEWPORT = (1440, 900)
CALM_MS = 400  # without a change or anything unfinished, a view is settled
_TIMEOUT_MS = 30_000
_SETTLE_S = 150.0
_PROGRAM = ("Document", "Script", "Stylesheet", "Font", "Manifest")
_PROBE = (Path(__file__).parent / "ui_probe.js").read_text("utf-8")


def chromium() -> str | None:
    """Where the system's Chromium is."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Unsettled(Exception):
    """A view that does not come to rest."""


@dataclass(frozen=True)
class Seen:
    """What one action took.

    Attributes:
        answered_s: Seconds from the first request of the server's script to its end; None where it was not asked.
        server_s: Seconds that the script ran for it in all, looks at what is computed beside the page among them.
        settled_s: Seconds from the click, or from asking for a page, to the settled view.
        view_bytes: Received for the view: websocket frames and pictures.
        program_bytes: Received of the page's own program (scripts, styles, fonts), once for each browser.
        marks: For a page that was loaded: seconds to its first ``paint``, its ``heading``, its first picture
            (``gallery``), and until it had ``settled``.
    """

    answered_s: float | None
    server_s: float | None
    settled_s: float
    view_bytes: int
    program_bytes: int
    marks: dict[str, float] = field(default_factory=dict)


@dataclass
class Tab:
    """A tab in a context of its own.

    Attributes:
        page: What playwright drives.
        ready: Selector without which a page is not finished.
        picture: Selector of a gallery's pictures.
        marks: Where the server's clock writes; None for a server without one.
        errors: Complaints of the console, uncaught exceptions, error messages on the page.
    """

    page: Page
    ready: str = "[data-testid=stMain] h1"
    picture: str = ".tile img"
    marks: Path | None = None
    errors: list[str] = field(default_factory=list)
    _frames: list[tuple[float, str, int]] = field(default_factory=list)  # (s, sent | finished | other, bytes)
    _kinds: dict[str, str] = field(default_factory=dict)  # of resource, by request
    _loaded: list[tuple[str, int]] = field(default_factory=list)  # (kind, bytes)
    _read: int = 0  # bytes of the marks
    _session: str | None = None  # the tab's, as the marks call it

    async def watch(self) -> None:
        """Follow the network; once, before anything is opened."""
        self.page.set_default_timeout(_TIMEOUT_MS)
        self.page.on("console", self._complaint)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        await self.page.add_init_script(f"window.__wanted = {json.dumps([self.ready, self.picture])};\n{_PROBE}")
        session = await self.page.context.new_cdp_session(self.page)
        await session.send("Network.enable")
        session.on("Network.webSocketFrameSent", lambda event: self._frame(event, sent=True))
        session.on("Network.webSocketFrameReceived", lambda event: self._frame(event, sent=False))
        session.on("Network.responseReceived", self._response)
        session.on("Network.loadingFinished", self._finished)

    async def open(self, address: str) -> Seen:
        """Load a page, and wait until it has settled."""
        self._forget()
        self._session = None
        await self.page.goto(address, wait_until="commit")
        return self._seen(await self._settle(), opened=True)

    async def do(self, act: Callable[[], Awaitable[Any]]) -> Seen:
        """Do something that ends in one click or key, and wait until the view has settled."""
        await self._settle()
        self._forget()
        await self.page.evaluate("__probe.arm()")
        await act()
        return self._seen(await self._settle())

    async def alerts(self) -> list[str]:
        """Errors that the page itself shows, added to ``errors``."""
        found = await self.page.locator(
            '[data-testid="stException"], [data-testid="stAlertContentError"]'
        ).all_inner_texts()
        self.errors.extend(found)
        return found

    async def _settle(self) -> dict[str, Any]:
        """Wait until no run of the script is asked for and the page is calm; what the probe has seen.

        Raises:
            Unsettled: It never is.
        """
        deadline = time.monotonic() + _SETTLE_S
        while True:
            left_ms = max(1.0, 1000 * (deadline - time.monotonic()))
            try:
                await self.page.wait_for_function(f"window.__probe?.calm({CALM_MS})", polling=50, timeout=left_ms)
            except PlaywrightTimeout as error:
                why = await self.page.evaluate("window.__probe?.why || 'it keeps changing'")
                raise Unsettled(f"not settled after {_SETTLE_S:.0f} s: {why}") from error
            if not _awaited(self._frames):
                break
            if time.monotonic() > deadline:
                self._forget()
                raise Unsettled(f"not settled after {_SETTLE_S:.0f} s: the script was asked to run and never ended")
            await asyncio.sleep(0.05)
        read: dict[str, Any] = await self.page.evaluate("__probe.read()")
        return read

    def _forget(self) -> None:
        self._frames.clear()
        self._loaded.clear()
        self._marks()

    def _marks(self) -> list[Mark]:
        """What the server has noted since one last asked."""
        if self.marks is None:
            return []
        found, self._read = read_marks(self.marks, self._read)
        return found

    def _seen(self, read: dict[str, Any], *, opened: bool = False) -> Seen:
        stages = {name: ms / 1000 for name, ms in read["marks"].items() if ms is not None} if opened else {}
        marks = self._marks()
        self._session = self._session or (marks[-1][1] if marks else None)
        spent = spans(marks, self._session)
        program = sum(size for kind, size in self._loaded if kind in _PROGRAM)
        return Seen(
            answered_s=spent[0] if spent else None,
            server_s=sum(spent) if spent else None,
            settled_s=stages["settled"] if opened else (read["busy"] - (read["begin"] or read["busy"])) / 1000,
            view_bytes=sum(size for _, kind, size in self._frames if kind != "sent")
            + sum(size for kind, size in self._loaded if kind not in _PROGRAM),
            program_bytes=program,
            marks=stages,
        )

    def _frame(self, event: dict[str, Any], *, sent: bool) -> None:
        payload = event["response"]["payloadData"]
        binary = event["response"]["opcode"] == 2
        raw = base64.b64decode(payload) if binary else payload.encode()
        self._frames.append((event["timestamp"], _kind(raw, sent=sent) if binary else "other", len(raw)))

    def _response(self, event: dict[str, Any]) -> None:
        self._kinds[event["requestId"]] = event["type"]

    def _finished(self, event: dict[str, Any]) -> None:
        self._loaded.append((self._kinds.get(event["requestId"], ""), int(event["encodedDataLength"])))

    def _complaint(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "/_stcore/" not in message.location["url"]:  # Streamlit's search for its base
            self.errors.append(message.text)


async def new_tab(
    browser: Browser, ready: str = Tab.ready, picture: str = Tab.picture, marks: Path | None = None
) -> Tab:
    """A tab in a fresh context: nothing cached, nothing selected; see ``Tab``."""
    context = await browser.new_context(viewport={"width": VIEWPORT[0], "height": VIEWPORT[1]})
    tab = Tab(await context.new_page(), ready, picture, marks)
    await tab.watch()
    return tab


def _kind(raw: bytes, *, sent: bool) -> str:
    """What a frame of Streamlit's says: a run was ``sent`` for, a run ``finished``, or anything ``other``."""
    try:
        if sent:
            return "sent" if BackMsg.FromString(raw).WhichOneof("type") == "rerun_script" else "other"
        message = ForwardMsg.FromString(raw)
    except DecodeError:
        return "other"
    ended = message.WhichOneof("type") == "script_finished"
    again = message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN  # another run follows at once
    return "finished" if ended and not again else "other"


def _awaited(frames: list[tuple[float, str, int]]) -> bool:
    """Whether a run of the script was asked for that has not ended."""
    awaited = False
    for _, kind, _ in sorted(frames):
        awaited = kind == "sent" or (awaited and kind != "finished")
    return awaited
