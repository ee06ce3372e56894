"""What every exploring page does first: follow the work in progress, and wait politely while there is nothing."""

import streamlit as st

from jepascore_core.store import Run
from pages.components import live, pickers, words


def runs_to_explore() -> list[Run]:
    """Runs with at least one scored image, newest first; without one, the page says so and ends here."""
    live.start_demo_once()
    live.banner()
    runs = pickers.readable_runs()
    if not runs:
        words.nothing_yet()
        live.live(lambda: None)
        st.stop()
    return runs
