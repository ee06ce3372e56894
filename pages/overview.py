"""Overview: what the score says and what it does not, the newest run at a glance, and all runs."""

import streamlit as st

from pages.components import live, pickers, runs_table, selection_bar, words
from pages.components.guard import card, page
from pages.components.inspector import open_image, reopen, strip
from pages.components.separation_table import directions
from pages.components.welcome import welcome

with page("Overview", "Which images does a pretrained vision encoder find likely, and which does it find strange?"):
    welcome()
    live.start_demo_once()
    live.banner()

    def newest() -> None:
        reopen()
        runs = pickers.latest_family(pickers.readable_runs())
        if runs:
            strip(runs)
            if sentence := directions(runs):
                st.caption(sentence)
            selection_bar.draw()
        else:
            words.nothing_yet()

    open_image()
    live.live(newest)

    meaning, limits = st.columns(2, gap="medium")
    with meaning, card("meaning", height="stretch"):
        words.what_it_is()
    with limits, card("limits", height="stretch"):
        words.what_it_is_not()

    live.live(runs_table.draw)
    words.next_steps(have_runs=bool(pickers.readable_runs()))
