"""Distributions: score distributions across datasets, per encoder (paper Fig. 3)."""

import streamlit as st

from pages.components import live, pickers
from pages.components.distribution import (
    curves,
    draw_curves,
    draw_selection,
    draw_separation,
    pick_shape,
    warn_about_encoders,
)
from pages.components.guard import card, page
from pages.components.inspector import open_image, reopen
from pages.components.opening import runs_to_explore
from pages.components.report import report_button

with page(
    "Distributions",
    "Is this kind of image familiar to the encoder? Score distributions across datasets, as in Figure 3 of the paper.",
):
    runs = runs_to_explore()
    labels = pickers.by_label(runs)
    with st.container(horizontal=True):
        chosen = pickers.pick_runs(labels, pickers.latest_family(runs))
        shape = pick_shape()
        rule = pickers.pick_rule(chosen)
        st.space("stretch")
        report_button(chosen, rule, key="report")
    pickers.note_on_score(chosen, rule)

    def figures() -> None:
        if not chosen:
            st.caption("Choose a run above.")
            return
        warn_about_encoders(chosen)
        frame, colours = curves(chosen, rule, per_class=shape.per_class)
        with card("curves"):
            selection = draw_curves(frame, colours, shape, chosen, rule)
        left, right = st.columns([9, 5], gap="small")
        with left, card("separation", height="stretch"):
            draw_separation(chosen, rule)
        with right, card("brushed", height="stretch"):
            draw_selection(selection, chosen, rule)
        reopen()

    open_image(rule)
    live.live(figures)
