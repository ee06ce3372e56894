"""Compare encoders: do they find the same images likely and strange? (paper, the claim beneath Fig. 1)."""

import streamlit as st

from pages.components import compare, compare_choice, compare_scatter, live, loaders, selection_bar
from pages.components.guard import card, guard, page
from pages.components.inspector import open_image, reopen
from pages.components.opening import runs_to_explore

with page(
    "Compare encoders",
    "Do two encoders find the same images likely and strange? Figure 1 of the paper says so of its extremes; "
    "here it is a number beside chance.",
):
    runs = runs_to_explore()
    groups = compare_choice.comparable(runs)
    if not groups:
        compare_choice.nothing_to_compare()
        with guard():
            compare_choice.offer_twins(runs)
        st.stop()
    choice = compare_choice.choose(groups)

    def agreement() -> None:
        common = loaders.common(choice.runs, choice.rule, choice.classes)
        if note := compare_choice.in_common(choice, common):
            st.caption(f":material/info: {note}")
        if not len(common):
            return
        with card("agreement"):
            compare.draw_agreement(choice, common)
        left, right = st.columns([7, 5], gap="small")
        with left, card("scatter", height="stretch"):
            boxes = compare_scatter.draw_scatter(choice, common)
        with right:
            compare_scatter.draw_selection(boxes, choice, common)
            with card("disagreements", height="stretch"):
                compare_scatter.draw_disagreements(choice, common)
        with card("classes"):
            compare.draw_classes(choice, common)
        selection_bar.draw(choice.rule)

    def figures() -> None:
        reopen()
        if len(choice.runs) < 2:
            st.caption("Choose at least two encoders above.")
        elif compare_choice.compared(choice):
            agreement()

    open_image(choice.rule)
    live.live(figures)
    with guard():
        compare_choice.offer_twins(runs)
