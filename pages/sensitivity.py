"""Sensitivity: does the score notice corrupted images, a class left out, wrong labels, and at which layer?"""

import streamlit as st

from pages.components import live, pickers, selection_bar, sensitivity_choice, sensitivity_form, sensitivity_views
from pages.components.guard import guard, page
from pages.components.inspector import open_image, reopen
from pages.components.opening import runs_to_explore

with page(
    "Sensitivity",
    "Does the score notice? Images, classes and labels changed on purpose, with rivals and controls beside the score.",
):
    runs = sensitivity_choice.judgeable(runs_to_explore())
    sensitivity_choice.tell_unknown()
    with st.container(horizontal=True, vertical_alignment="center"):
        view = sensitivity_choice.pick_view()
        run = pickers.pick_run(pickers.by_label(runs), pickers.latest_family(runs)[0])
        choice = sensitivity_choice.choose(view, run, runs)

    def results() -> None:
        reopen()
        sensitivity_views.DRAW[view](choice)
        selection_bar.draw()

    open_image()
    live.live(results)
    with guard():
        sensitivity_form.draw(choice)
