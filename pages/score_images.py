"""Score images: start, follow, cancel and resume runs; or drop one image in; or import results of others."""

import streamlit as st

from jepascore_core.allowed import read_only
from pages.components import import_results, live, one_image, words, work
from pages.components.guard import guard, page
from pages.components.inspector import open_image
from pages.components.new_run import ask_for_runs

QUESTION = (
    "What is being scored here, and what came of it?"
    if read_only()
    else "Point an encoder at some images. Each run is its own process: close this page, it goes on."
)

with page("Score images", QUESTION):
    live.start_demo_once()
    if read_only():
        words.read_only("Runs are started by the owner of this dashboard.")
        open_image()
        live.live(work.draw)
        st.stop()
    names = ["Score a dataset", "Try one image", "Import results"]
    runs_tab, image_tab, import_tab = st.tabs(names, key="tab", on_change="rerun")
    if runs_tab.open:
        with runs_tab:
            with guard():
                ask_for_runs()
            open_image()
            live.live(work.draw)
    if image_tab.open:
        with image_tab, guard():
            one_image.draw()
    if import_tab.open:
        with import_tab, guard():
            import_results.draw()
