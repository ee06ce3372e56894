"""A figure that changes while rows arrive, without a blink."""

from collections.abc import Callable, Hashable
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from pages.components.captions import CONFIG

_OVERLAY = """<style>
.st-key-steady_{key} {{ display: grid; grid-template-columns: minmax(0, 1fr); }}
.st-key-steady_{key} > * {{ grid-area: 1 / 1; }}
.st-key-steady_{key} > :has(.st-key-steady_{key}_{top}) {{ z-index: 1; }}
.st-key-steady_{key} .js-plotly-plot {{ background: light-dark(#ffffff, #1a1c20); }}
.st-key-steady_{key} .selectionlayer path {{ pointer-events: none !important; }} /* dots in a brush can be clicked */
</style>"""


def steady(
    make: Callable[[], go.Figure],
    of: Hashable,
    *,
    key: str,
    alt: str,
    growing: bool,
    on_select: Callable[[str], Callable[[], None]] | None = None,
) -> None:
    """Draw a figure; while it grows, the one before stays beneath it until it is there.

    Streamlit takes a changed figure for a new one, and a new one takes the browser a moment. So there are two
    places, one over the other, and a new figure goes into the free one. The next look clears the other.

    Args:
        make: Makes the figure.
        of: What it is made from: the figure of the same is not made again.
        key: Streamlit key, unique on the page; the container around it is ``steady_`` and the key.
        alt: What the figure shows, in words.
        growing: Rows arrive, and the page looks again soon.
        on_select: Makes a callback for a brush from the key of the chart.
    """
    held: dict[str, Any] = st.session_state.setdefault(f"{key}_held", {"of": None, "shown": None, "place": 0})
    before = None
    if held["shown"] is None or held["of"] != of:
        before = held["shown"] if growing else None
        held.update(of=of, shown=(make(), alt), place=1 - held["place"])
    with st.container(key=f"steady_{key}"):
        st.html(_OVERLAY.format(key=key, top=held["place"]))
        for place in (0, 1):
            with st.container(key=f"steady_{key}_{place}"):
                shown = held["shown"] if place == held["place"] else before
                if shown is None:
                    st.empty()
                else:
                    _chart(*shown, key=f"{key}_{place}", on_select=on_select)


def _chart(figure: go.Figure, alt: str, *, key: str, on_select: Callable[[str], Callable[[], None]] | None) -> None:
    """One of the two figures."""
    options: dict[str, Any] = {}
    if on_select is not None:
        options = {"on_select": on_select(key), "selection_mode": ("points", "box")}
    st.plotly_chart(figure, key=key, theme="streamlit", config=CONFIG, alt=alt, **options)
