"""The line beneath every chart: encoder, D, input size, dataset, n, precision, convention."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from jepascore_core.naming import encoder_phrase
from jepascore_core.store import Run, ScoreRule, is_given
from pages.components import pickers
from pages.components.text import md, plural

CONFIG = {"displayModeBar": False, "displaylogo": False, "scrollZoom": False}

_MAP_CONFIG = {
    "displayModeBar": True, "displaylogo": False, "scrollZoom": True,
    "modeBarButtons": [["lasso2d", "select2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
}  # fmt: skip


def caption(runs: Sequence[Run], counts: Sequence[int], rule: ScoreRule, more: str = "") -> None:
    """State what a chart shows, one encoder after the other."""
    parts = []
    for encoder in dict.fromkeys(encoder_phrase(run) for run in runs):
        mine = [(run, n) for run, n in zip(runs, counts, strict=True) if encoder_phrase(run) == encoder]
        sets = ", ".join(f"{md(pickers.dataset_name(run))} ({plural(n, 'image')})" for run, n in mine)
        parts.append(f"{md(encoder)}: {sets}")
    unit = "in the unit of its file" if runs and all(is_given(run) for run in runs) else "in nats"
    convention = f"Score: {md(pickers.rule_name(rule, runs))}, {unit}"
    st.caption(". ".join([*parts, convention]) + "." + (f" {more}" if more else ""))


def chart(figure: go.Figure, *, key: str, alt: str) -> None:
    """Draw a figure in the page's theme, without a toolbar."""
    st.plotly_chart(figure, key=key, theme="streamlit", config=CONFIG, alt=alt)


def brushable(figure: go.Figure, *, key: str, alt: str) -> dict:
    """Draw a figure whose points can be clicked or brushed; return the selection."""
    state = st.plotly_chart(
        figure, key=key, theme="streamlit", config=CONFIG, alt=alt,
        on_select="rerun", selection_mode=("points", "box"),
    )  # fmt: skip
    return dict(state.get("selection", {}))


def map_chart(figure: go.Figure, *, key: str, alt: str) -> dict:
    """Draw a figure whose dots can be circled, boxed or clicked, and which zooms; return the selection."""
    state = st.plotly_chart(
        figure, key=key, theme="streamlit", config=_MAP_CONFIG, alt=alt,
        on_select="rerun", selection_mode=("points", "box", "lasso"),
    )  # fmt: skip
    return dict(state.get("selection", {}))
