"""Singular vectors: what changes to an image move its embedding, and where its score comes from (paper Fig. 7)."""

import streamlit as st

from pages.components import loaders, pickers
from pages.components.guard import page
from pages.components.opening import runs_to_explore
from pages.components.vectors import draw_facts, draw_vectors, pick_image, pick_vectors, source_or_upload, step_buttons

with page(
    "Singular vectors",
    "Which changes to this image would move its embedding most, and which patches carry its score? "
    "As in Figure 7 of the paper.",
):
    runs = runs_to_explore()
    with st.container(horizontal=True):
        run = pickers.pick_run(pickers.by_label(runs), pickers.latest_family(runs)[0])
        chosen = st.container(width="content")
        wanted = pick_vectors(run)
        rule = pickers.pick_rule([run])
        with chosen:
            ranked = pick_image(run, rule)
        st.space("stretch")
        step_buttons(ranked)
    pickers.note_on_score([run], rule)
    row = loaders.row(run, ranked.key)
    source = source_or_upload(run, row)
    draw_facts(run, row, rule, source)
    if source is not None:
        draw_vectors(run, source, wanted, rule)
