"""Theory lab: does the score follow a density that is known exactly? (paper Fig. 2)."""

from collections.abc import Callable

import streamlit as st

from pages.components import lab_experiment, lab_grid, lab_views, pickers
from pages.components.guard import guard, page

VIEWS: dict[str, Callable[[], None]] = {
    "One experiment": lab_experiment.draw,
    "Dimension × samples": lab_grid.draw,
    "Views": lab_views.draw,
}

with page(
    "Theory lab",
    "Does training for Gaussian embeddings teach an encoder its data's density? Mixtures whose density is known, "
    "as in Figure 2 of the paper.",
):
    pickers.tell_unknown({"view": lambda value: value in VIEWS})
    view = st.segmented_control(
        "View", list(VIEWS), default=next(iter(VIEWS)), key="view", bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    with guard():
        VIEWS.get(view or "", lab_experiment.draw)()
