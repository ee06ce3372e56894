"""Class extremes: least and most likely images of a class, a row for each run (paper Figs 1, 5 and 6)."""

import streamlit as st

from pages.components import live, pickers
from pages.components.captions import caption
from pages.components.extremes import class_rows, pick_classes, pick_layout
from pages.components.gallery import gallery
from pages.components.guard import page
from pages.components.inspector import open_image, pick, reopen
from pages.components.opening import runs_to_explore

with page(
    "Class extremes",
    "Which images of a class does the encoder find least and most likely? As in Figures 1, 5 and 6 of the paper.",
):
    runs = runs_to_explore()
    labels = pickers.by_label(runs)
    with st.container(horizontal=True):
        chosen = pickers.pick_runs(labels, pickers.latest_family(runs))
        classes = pick_classes(chosen)
        layout = pick_layout()
        rule = pickers.pick_rule(chosen)
    pickers.note_on_score(chosen, rule)

    def rows() -> None:
        lines = class_rows(chosen, classes, layout, rule)
        empty = "Choose a run above." if not chosen else "No image of these classes has a score yet."
        gallery(lines, key="extremes", columns=layout.columns, size=layout.size, empty=empty, on_pick=pick)
        caption(chosen, [pickers.scored(run) for run in chosen], rule, "Click an image, or press Enter, to inspect it.")
        reopen()

    open_image(rule)
    live.live(rows)
