"""What was brushed or clicked in a chart of curves. A brush lives in the URL, and outlives a change of the figure."""

import math
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from jepascore_core.curves import Span

_CLICKED, _DRAWN, _OF, _TURN = "clicked_dot", "brush_drawn", "brush_of", "brush_turn"
_MOST_PANELS = 1000
_DOTS = st.components.v2.component(
    "jepascore_dots", html="<i></i>", js=(Path(__file__).parent / "dots.js").read_text("utf-8")
)


def brushed() -> Span | None:
    """The range that the URL holds as ``brush``, panel and two scores; None where it means nothing."""
    try:
        panel, low, high = st.query_params.get("brush", "").split(":")
        span = Span(int(panel) - 1, float(low), float(high))
    except ValueError:
        return None
    fine = 0 <= span.panel < _MOST_PANELS and math.isfinite(span.low) and math.isfinite(span.high)
    return span if fine and span.low <= span.high else None


def clicked() -> tuple[str, str] | None:
    """Run and key of the dot that was clicked last, if nothing was brushed since."""
    return st.session_state.get(_CLICKED)


def forget() -> None:
    """Drop what was brushed or clicked; the figure is drawn anew, since a browser keeps what it marked."""
    _keep(None, None)
    st.session_state.pop(_DRAWN, None)
    st.session_state[_TURN] = turn() + 1


def turn() -> int:
    """How many times everything was dropped: part of what a figure is made from."""
    return int(st.session_state.get(_TURN, 0))


def belongs_to(shown: Hashable) -> None:
    """Forget a brush when the scale under it has changed, such as with another score; one from a link stays."""
    if st.session_state.setdefault(_OF, shown) != shown:
        st.session_state[_OF] = shown
        forget()


def to_draw(figure: Hashable) -> Span | None:
    """The range to mark in a figure: what was brushed before this figure; what is brushed in it, it marks itself.

    A figure that changed with every brush would be drawn anew with every brush.
    """
    known, now = st.session_state.get(_DRAWN), brushed()
    if known is None or known[0] != figure or now is None:
        known = st.session_state[_DRAWN] = (figure, now)
    return known[1]


def listen(key: str) -> Callable[[], None]:
    """What a chart calls when something was brushed in it, or nothing any more.

    Args:
        key: The chart's.

    Returns:
        The callback.
    """

    def changed() -> None:
        selection: Mapping[str, Any] = (st.session_state.get(key) or {}).get("selection") or {}
        boxes = selection.get("box") or []
        if boxes:
            low, high = sorted(float(x) for x in boxes[-1]["x"])
            _keep(Span(int(str(boxes[-1].get("xref") or "x")[1:] or 1) - 1, low, high), None)
        else:
            _keep(None, None)

    return changed


def listen_to_dots(within: str) -> None:
    """Take clicks on the dots of a chart.

    Args:
        within: Key of a container around the chart.
    """
    key = f"{within}_dots"

    def changed() -> None:
        value = getattr(st.session_state.get(key), "dot", None)
        if isinstance(value, str) and "\n" in value:
            run, image = value.split("\n", 1)
            forget()
            _keep(None, (run, image))

    _DOTS(key=key, data={"within": within}, on_dot_change=changed)


def _keep(span: Span | None, dot: tuple[str, str] | None) -> None:
    """Remember one of the two."""
    if span is None:
        st.query_params.pop("brush", None)
    else:
        st.query_params["brush"] = f"{span.panel + 1}:{span.low:.6g}:{span.high:.6g}"
    st.session_state.pop(_CLICKED, None)
    if dot is not None:
        st.session_state[_CLICKED] = dot
