"""Curation: is keeping images by their score better than keeping as many at random? Duplicates first."""

import streamlit as st

from pages.components import curation, curation_choice, curation_pictures, selection_bar
from pages.components.guard import card, guard, page
from pages.components.inspector import open_image
from pages.components.opening import runs_to_explore

with page(
    "Curation",
    "Is keeping images by their score better than keeping as many at random? Measured with two probes on held-out "
    "images; duplicates are found first.",
):
    choice = curation_choice.choose(runs_to_explore())
    open_image(choice.rule)
    verdict = card("verdict")
    with card("duplicates"), guard():
        curation_pictures.draw_duplicates(choice)
    accuracy = st.container()
    with card("kept"), guard():
        curation_pictures.draw_kept(choice)
    trials = None
    with verdict, guard():  # takes longest
        trials = curation.draw_verdict(choice)
    if trials is not None:
        with accuracy, card("accuracy"), guard():
            curation.draw_accuracy(choice, trials)
    selection_bar.draw(choice.rule)
    st.space("small")
