"""Distributions: score distributions across datasets, per encoder or per class (paper Fig. 3)."""

import streamlit as st

from pages.components import live, pickers, selection_bar
from pages.components.curves import drawn_curves, pick_classes, pick_shape, tell_left_out
from pages.components.distribution import draw_curves, draw_selection, places, warn_about_encoders
from pages.components.guard import card, page
from pages.components.inspector import open_image, reopen
from pages.components.opening import runs_to_explore
from pages.components.report import report_button
from pages.components.separation_table import draw_separation

with page(
    "Distributions",
    "Is this kind of image familiar to the encoder? Score distributions across datasets, as in Figure 3 of the paper.",
):
    runs = runs_to_explore()
    labels = pickers.by_label(runs)
    with st.container(horizontal=True):
        chosen = pickers.pick_runs(labels, pickers.latest_family(runs))
        shape = pick_shape()
        place = st.container(width="content") if shape.per_class else None
        rule = pickers.pick_rule(chosen)
        st.space("stretch")
        report_button(chosen, rule, key="report")
    classes: list[str] = []
    if place is not None:
        with place:
            classes = pick_classes(chosen, rule)
    pickers.note_on_score(chosen, rule)

    def figures() -> None:
        reopen()
        drawn = drawn_curves(chosen, rule, classes)
        tell_left_out(chosen, drawn, classes)
        if not drawn:
            st.caption("Choose a run above.")
            return
        warn_about_encoders(drawn)
        with card("curves"):
            draw_curves(drawn, shape, rule)
        table, images = places(drawn)
        with table, card("separation", height="stretch"):
            draw_separation(drawn, rule)
        with images, card("brushed", height="stretch"):
            draw_selection(drawn)
        selection_bar.draw(rule)

    open_image(rule)
    live.live(figures)
