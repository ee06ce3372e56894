"""The visitors of ``benchmarks.load``: what they make of what a server sends."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks import load


class Socket:
    """A server that answers each request with the same frames."""

    def __init__(self, *frames: ForwardMsg) -> None:
        self.asked: list[BackMsg] = []
        self._frames, self._waiting = frames, []

    async def send(self, frame: bytes) -> None:
        self.asked.append(BackMsg.FromString(frame))
        self._waiting = [each.SerializeToString() for each in self._frames]

    async def recv(self) -> bytes:
        return self._waiting.pop(0)


def navigation() -> ForwardMsg:
    frame = ForwardMsg()
    for name in ("Overview", "Map"):
        frame.navigation.app_pages.add(page_name=name, page_script_hash=f"hash of {name}")
    return frame


def checkbox() -> ForwardMsg:
    frame = ForwardMsg()
    frame.delta.new_element.checkbox.id = "box"
    frame.delta.new_element.checkbox.default = True
    return frame


def choice() -> ForwardMsg:
    frame = ForwardMsg()
    frame.delta.new_element.button_group.id = "group"
    for name in ("raw", "sphere"):
        frame.delta.new_element.button_group.options.add(content=name)
    return frame


def failure() -> ForwardMsg:
    frame = ForwardMsg()
    frame.delta.new_element.exception.type = "KeyError"
    frame.delta.new_element.exception.message = "'x'"
    return frame


def finished(status: int = ForwardMsg.FINISHED_SUCCESSFULLY) -> ForwardMsg:
    return ForwardMsg(script_finished=status)


def visited(*frames: ForwardMsg, clicks: int = 0) -> tuple[load.Visitor, Socket]:
    async def visit() -> None:
        await someone.open()
        for _ in range(clicks):
            await someone.click()

    socket = Socket(*frames)
    someone = load.Visitor(socket, load.Found(), random.Random(0))
    with ThreadPoolExecutor(1) as pool:  # a thread of its own: playwright leaves a loop running in this one
        pool.submit(asyncio.run, visit()).result()
    return someone, socket


def test_pages_are_opened_by_their_scripts_and_timed() -> None:
    someone, socket = visited(navigation(), finished(), clicks=3)  # nothing to click on: other pages are opened
    hashes = [asked.rerun_script.page_script_hash for asked in socket.asked]
    assert hashes[0] == "" and set(hashes[1:]) <= {"hash of Overview", "hash of Map"}
    assert len(someone.found.seconds) == 4 and someone.found.pages[0] == "first visit" and not someone.found.errors


def test_a_click_sends_what_was_chosen_and_keeps_it() -> None:
    _, socket = visited(checkbox(), choice(), finished(), clicks=12)
    states = [asked.rerun_script.widget_states.widgets for asked in socket.asked]
    assert not states[0] and {state.id for state in states[-1]} == {"box", "group"}
    for state in states[-1]:
        assert state.bool_value is False if state.id == "box" else state.string_array_value.data[0] in ("raw", "sphere")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ((failure(), finished()), "KeyError: 'x'"),
        ((finished(ForwardMsg.FINISHED_WITH_COMPILE_ERROR),), "does not compile"),
        ((ForwardMsg(page_not_found={}), finished()), "no such page"),
    ],
)
def test_an_error_on_a_page_is_an_error(frames: tuple[ForwardMsg, ...], words: str) -> None:
    (error,) = visited(*frames)[0].found.errors
    assert words in error


def test_a_run_that_gives_way_to_another_is_not_the_end() -> None:
    someone, _ = visited(finished(ForwardMsg.FINISHED_EARLY_FOR_RERUN), failure(), finished())
    assert someone.found.errors


def test_times_and_table() -> None:
    took = load.times([0.1] * 95 + [2.0] * 5)
    assert took["reruns"] == 100 and took["p50_s"] == 0.1 and 0.1 < took["p95_s"] < 2 == took["max_s"]
    assert load.times([]) == {"reruns": 0}
    result = {
        "visitors": 50, "seconds": 300.0, "pause_s": 10.0, "errors": ["x"], "times": took,
        "memory_mb": [{"s": 0, "mb": 300}, {"s": 1, "mb": 900}, {"s": 2, "mb": 800}],
        "page_views": {"views": 1000, "errors": [], "memory_mb": [{"mb": 500.0}, {"mb": 503.0}]},
        "scoring": {"images_per_s": {"before": 4.0, "with_visitors": 2.0, "after": 6.0}, "lasted": True},
    }  # fmt: skip
    told = load.table(result)
    assert "| 100, 1 |" in told and "| 300 MB, 900 MB |" in told and "| +3 MB |" in told and "| 5, 2 |" in told
