"""Outliers: which method tells unusual images from usual ones, in which direction, and what a threshold flags."""

import streamlit as st

from pages.components import live, outliers_choice, outliers_compare, outliers_images, outliers_sweep, selection_bar
from pages.components.guard import card, page
from pages.components.inspector import open_image, reopen
from pages.components.opening import runs_to_explore
from pages.components.outliers_choice import Choice
from pages.components.prepared import ready

with page(
    "Outliers",
    "Does the score tell unusual images from usual ones, in which direction, and better than simpler methods on the "
    "same embeddings?",
):
    runs = runs_to_explore()
    offered = outliers_choice.comparable(runs)
    if not offered:
        outliers_choice.nothing_to_compare(runs)
        st.stop()
    choice = outliers_choice.choose(offered)

    def methods(choice: Choice) -> None:
        found = outliers_compare.evaluated(choice)
        with card("methods"):
            outliers_compare.draw_methods(choice, found)
        if not found.judged:
            return
        with card("table"):
            outliers_compare.draw_table(found, outliers_compare.pick_against(choice))
        by = outliers_compare.pick_by(found)
        with card("decision"):
            outliers_images.draw_decision(choice, found, by)
        with card("roc"):
            outliers_compare.draw_roc(choice, found, by.method)
        with card("ends"):
            outliers_images.draw_ends(choice, found, by)
        with card("differ"):
            outliers_images.draw_disagreements(choice, found, by, outliers_compare.pick_versus(found, by))

    def figures() -> None:
        reopen()
        if not choice.others:
            st.caption("Choose at least one other run above.")
        elif choice.view == outliers_choice.VIEWS[1]:
            outliers_sweep.draw_sweeps(choice)
        elif (shown := ready("outliers_shown", choice, outliers_compare.evaluating)) is not None:
            methods(shown)
        selection_bar.draw()

    open_image()
    live.live(figures)
