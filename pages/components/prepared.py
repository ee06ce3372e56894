"""What takes long is computed beside the page, which is drawn without it, says how far it is, and draws itself again.

Work has a name, so that all who wait for the same thing wait for one computation. What it finds it leaves where the
page looks for it, in the caches of ``loaders`` and of the store; here is remembered only that it was done.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import streamlit as st

from jepascore_core.errors import JepaScoreError
from jepascore_core.store import Run
from pages.components import loaders
from pages.components.guard import guard, hide_status
from pages.components.text import duration
from pages.components.warm import hold_off

_Choice = TypeVar("_Choice")

_LOG = logging.getLogger("jepascore")

Tell = Callable[[float, str], None]  # gets the share that is done, 0..1, and what is being done

PATIENCE_S = 0.15  # what takes no longer is simply waited for
POLL_S = 0.5
_SKELETON = """<div class="skeleton" aria-hidden="true"></div><style>
.skeleton { height: 320px; border-radius: 12px; background: light-dark(#efefec, #1a1c20); }
@media (prefers-reduced-motion: no-preference) { .skeleton { animation: skeleton 1.6s infinite alternate; } }
@keyframes skeleton { from { opacity: 1; } to { opacity: 0.5; } }
</style>"""
_LONELY_S = 15.0  # what nobody has looked at for so long is given up, where it says how far it is
_MOST_DONE = 1000
_AT_ONCE = threading.BoundedSemaphore(max(2, os.cpu_count() or 1))


@dataclass(eq=False)
class Work:
    """Something that is being computed, or waits for its turn.

    Attributes:
        of: Its name and its runs as they are.
        words: What is being done.
        share: How much of it, 0..1; None where that is not known.
        since_s: When it was begun.
        asked_s: When somebody looked at it last.
        over: Whether it has ended.
        error: Why it failed.
    """

    of: Hashable
    words: str
    share: float | None = None
    since_s: float = field(default_factory=time.monotonic)
    asked_s: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class _GivenUpError(Exception):
    """Nobody waits any more."""


_turn = threading.Lock()
_at_work: dict[Hashable, Work] = {}
_done: OrderedDict[Hashable, None] = OrderedDict()


def begin(
    name: Hashable,
    runs: Sequence[Run],
    compute: Callable[[Tell], object],
    words: str,
    *,
    known: bool | None = None,
    patience: float = 1,
) -> Work | None:
    """Compute something of some runs beside the page, unless it was done before.

    Runs at work change faster than that: what is asked of them is left to the page.

    Args:
        name: What it is; whoever asks for the same of the same runs waits for the same computation.
        runs: The runs.
        compute: Gets a function to tell how far it is; called in a thread of its own, outside of any page.
        words: What is being done, Markdown.
        known: Whether its result is at hand; None where that follows from its having been computed.
        patience: How much longer than usual to wait, times, where a page that is drawn twice costs more.

    Returns:
        None when it is done, soon if not at once; else what to ``follow``.

    Raises:
        Exception: What the computation raised; it is begun anew when one asks again.
    """
    if known or any(run.progress().active for run in runs):
        return None
    of = name, loaders.identity(runs)
    with _turn:
        if known is None and of in _done:
            _done.move_to_end(of)
            return None
        work = _at_work.get(of)
        if work is None:
            work = _at_work[of] = Work(of, words)
            threading.Thread(target=_run, args=(work, compute), name="prepared", daemon=True).start()
        work.asked_s = time.monotonic()
    if not work.over.wait(max(0.0, work.since_s + patience * PATIENCE_S - time.monotonic())):
        return work
    if work.error is not None:
        _forget(work)
        raise work.error
    return None


def follow(work: Work, note: str = "") -> None:
    """Say how far it is, look again and again, and draw the whole page when it has ended.

    Args:
        work: What ``begin`` returned.
        note: What is shown meanwhile, Markdown; without anything, its place is kept.
    """
    hide_status()

    @st.fragment(run_every=POLL_S)
    def body() -> None:
        if work.over.is_set():
            st.rerun()
        work.asked_s = time.monotonic()
        hold_off()
        with guard(), st.container(key=f"preparing_{abs(hash(work.of))}", gap="xsmall"):
            waited_s = work.asked_s - work.since_s
            so_far = f", {duration(waited_s)} so far" if waited_s >= 1 else ""
            st.caption(f":material/hourglass_top: {work.words}{so_far}. {note}")
            if work.share:
                st.progress(work.share)
            if not note:
                st.html(_SKELETON)

    body()


def prepared(name: Hashable, runs: Sequence[Run], compute: Callable[[Tell], object], words: str) -> bool:
    """Whether something is computed; where it is not yet, that is said here. See ``begin``."""
    work = begin(name, runs, compute, words)
    if work is not None:
        follow(work)
    return work is None


def ready(key: str, wanted: _Choice, start: Callable[[_Choice], Work | None]) -> _Choice | None:
    """What can be shown: what is wanted, or the choice before it as long as that is being computed, which is said here.

    Args:
        key: Under which the visitor's last choice is remembered; one for each place.
        wanted: What was chosen.
        start: Begins what a choice needs, or says that it is there.

    Returns:
        A choice; None where there was none before.

    Raises:
        Exception: As ``begin``.
    """
    work = start(wanted)
    if work is None:
        st.session_state[key] = wanted
        return wanted
    last: _Choice | None = st.session_state.get(key)
    follow(work, "" if last is None else "Shown meanwhile is what was chosen before.")
    return last


def _run(work: Work, compute: Callable[[Tell], object]) -> None:
    """Compute, not too much at once."""

    def tell(share: float, words: str) -> None:
        work.share, work.words = min(1.0, max(0.0, share)), words
        if time.monotonic() - work.asked_s > _LONELY_S:
            raise _GivenUpError

    try:
        with _AT_ONCE:
            compute(tell)
    except _GivenUpError:
        _forget(work)
    except Exception as error:  # kept for the page that asks next
        if not isinstance(error, JepaScoreError):
            _LOG.exception("what a page waits for failed")
        work.error = error.with_traceback(None)  # which holds everything that was computed so far
    else:
        _forget(work, done=True)
    work.over.set()


def _forget(work: Work, *, done: bool = False) -> None:
    """Let the next who asks begin anew, or know that it was done."""
    with _turn:
        if _at_work.get(work.of) is work:
            del _at_work[work.of]
        if done:
            _done[work.of] = None
            while len(_done) > _MOST_DONE:
                _done.popitem(last=False)
