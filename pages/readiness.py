"""Readiness: how an encoder takes to a domain, beside runs of domains that it is at home in."""

import streamlit as st

from pages.components import loaders, readiness
from pages.components.guard import card, page
from pages.components.opening import runs_to_explore
from pages.components.prepared import ready

with page(
    "Readiness",
    "How does an encoder take to a domain? Its scores, its embeddings and its classes there, beside reference runs.",
):
    families = readiness.families(runs_to_explore())
    if not families:
        readiness.nothing_to_compare()
        st.stop()
    choice = readiness.choose(families)
    if not choice.references:
        st.caption("Choose at least one reference above.")
        st.stop()
    shown = ready("readiness_shown", choice, readiness.assessing)
    if shown is None:
        st.stop()
    choice = shown
    found = loaders.readiness(choice.domain, choice.references, choice.rule)
    with card("sentence"):
        readiness.draw_sentence(found)
    with card("scores"):
        readiness.draw_scores(choice)
    with card("beside"):
        readiness.draw_beside(choice, found)
    with card("within"):
        readiness.draw_within(found)
