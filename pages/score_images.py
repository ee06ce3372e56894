"""Score images: start, follow, cancel and resume runs; or drop one image in."""

import streamlit as st

from pages.components import live, one_image, work
from pages.components.guard import guard, page
from pages.components.inspector import open_image
from pages.components.new_run import ask_for_runs

with page("Score images", "Point an encoder at some images. Each run is its own process: close this page, it goes on."):
    live.start_demo_once()
    runs_tab, image_tab = st.tabs(["Score a dataset", "Try one image"], key="tab", on_change="rerun")
    if runs_tab.open:
        with runs_tab:
            with guard():
                ask_for_runs()
            open_image()
            live.live(work.draw)
    if image_tab.open:
        with image_tab, guard():
            one_image.draw()
