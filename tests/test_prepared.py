"""What takes long is computed beside the page: once for all who wait, with errors kept, and given up when alone."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core.errors import RunError
from jepascore_core.store import Run
from pages.components import prepared

WAIT_S = 30.0


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a server that has just been started, whose pages wait no longer than they do for a reader."""
    monkeypatch.setattr(prepared, "PATIENCE_S", 0.05)
    monkeypatch.setattr(prepared, "_at_work", {})
    prepared._done.clear()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the latest when the test ends, so that no thread waits on."""
    opened = threading.Event()
    yield opened
    opened.set()


def ended(work: prepared.Work | None) -> prepared.Work:
    assert work is not None and work.over.wait(WAIT_S)
    return work


def test_who_asks_for_the_same_waits_for_one_computation(gate: threading.Event) -> None:
    calls: list[int] = []

    def compute(tell: prepared.Tell) -> None:
        calls.append(1)
        tell(0.5, "half")
        gate.wait(WAIT_S)

    first = prepared.begin("name", [], compute, "Computing")
    assert first is not None and prepared.begin("name", [], compute, "Computing") is first
    assert (first.share, first.words) == (0.5, "half") and not first.over.is_set()
    assert prepared.begin("another", [], lambda tell: None, "Computing") is None
    gate.set()
    ended(first)
    assert prepared.begin("name", [], compute, "Computing") is None and calls == [1]


def test_what_is_done_is_done_again_where_its_result_is_not_at_hand() -> None:
    calls: list[int] = []
    for known in (None, None, True, False, False):
        assert prepared.begin("name", [], lambda tell: calls.append(1), "Computing", known=known) is None
    assert len(calls) == 3


def test_an_error_reaches_the_page_that_asks_next_and_the_one_after_begins_anew(gate: threading.Event) -> None:
    calls: list[int] = []

    def compute(tell: prepared.Tell) -> None:
        calls.append(1)
        gate.wait(WAIT_S)
        raise RunError("The rows cannot be read.")

    work = prepared.begin("name", [], compute, "Computing")
    gate.set()
    ended(work)
    for number in (1, 2):
        with pytest.raises(RunError, match=r"^The rows cannot be read\.$"):
            prepared.begin("name", [], compute, "Computing")
        assert len(calls) == number


def test_a_surprise_is_logged_where_it_happened(caplog: pytest.LogCaptureFixture) -> None:
    def compute(tell: prepared.Tell) -> None:
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError):
        prepared.begin("name", [], compute, "Computing")
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_what_nobody_waits_for_is_given_up_and_can_be_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_LONELY_S", 0.2)
    steps: list[float] = []

    def compute(tell: prepared.Tell) -> None:
        for step in range(3000):
            steps.append(time.monotonic())
            tell(step / 3000, "on and on")
            time.sleep(0.01)

    work = ended(prepared.begin("name", [], compute, "Computing"))
    assert work.error is None and 0 < len(steps) < 3000
    assert not prepared._at_work and not prepared._done


def test_a_run_at_work_is_left_to_the_page() -> None:
    class AtWork(Run):
        def progress(self):  # type: ignore[no-untyped-def]
            return type("Progress", (), {"active": True})()

    def compute(tell: prepared.Tell) -> None:
        pytest.fail("it changes faster than that")

    assert prepared.begin("name", [AtWork(Path("run"))], compute, "Computing") is None


def test_no_more_is_computed_at_once_than_there_are_turns(gate: threading.Event) -> None:
    at_work: list[str] = []

    def compute(name: str) -> None:
        prepared.begin(name, [], lambda tell: (at_work.append(name), gate.wait(WAIT_S)), "Computing")

    turns = prepared._AT_ONCE._initial_value
    for number in range(turns + 2):
        compute(f"{number}")
    assert len(at_work) == turns
    gate.set()
    for work in list(prepared._at_work.values()):
        ended(work)
    assert len(at_work) == turns + 2


def _page() -> None:
    import streamlit as st

    from pages.components import prepared as preparing
    from tests import test_prepared

    if preparing.prepared("slow", [], test_prepared.slow, "Matching *images*"):
        st.markdown("Here it is.")
    st.markdown("The rest of the page.")


opened = threading.Event()


def slow(tell: prepared.Tell) -> None:
    """What the page above waits for."""
    tell(0.25, "Matching 3 of 12")
    opened.wait(WAIT_S)


def test_the_page_is_drawn_without_it_and_then_with_it() -> None:
    opened.clear()
    try:
        page = AppTest.from_function(_page).run()
        assert [text.value for text in page.markdown] == ["The rest of the page."]
        assert "Matching 3 of 12" in page.caption[0].value and not page.exception
        assert page.get("progress")[0].proto.value == 25
    finally:
        opened.set()
    for work in list(prepared._at_work.values()):
        ended(work)
    page.run()
    assert [text.value for text in page.markdown] == ["Here it is.", "The rest of the page."]
    assert not page.caption and not page.get("progress")


def _choosing_page() -> None:
    import streamlit as st

    from pages.components import prepared as preparing
    from tests import test_prepared

    wanted = st.radio("Choice", ["quick", "slow"], key="choice")
    shown = preparing.ready(
        "shown", wanted, lambda choice: preparing.begin(choice, [], test_prepared.of(choice), "At work")
    )
    st.markdown(f"Shown is {shown}.")


def of(choice: str) -> Callable[[prepared.Tell], object]:
    """What the page above computes for a choice."""
    return slow if choice == "slow" else lambda tell: None


@pytest.mark.parametrize("first", ["quick", "slow"])
def test_the_choice_before_is_shown_until_another_is_computed(first: str) -> None:
    opened.clear()
    try:
        page = AppTest.from_function(_choosing_page)
        page.session_state["choice"] = first
        assert page.run().markdown[0].value == f"Shown is {'quick' if first == 'quick' else None}."
        page.radio(key="choice").set_value("slow").run()
        assert page.markdown[0].value == f"Shown is {'quick' if first == 'quick' else None}."
        assert ("Shown meanwhile" in page.caption[0].value) == (first == "quick")
    finally:
        opened.set()
    for work in list(prepared._at_work.values()):
        ended(work)
    assert page.run().markdown[0].value == "Shown is slow." and not page.caption
