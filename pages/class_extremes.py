"""Class extremes: least and most likely images of a class, a row a run (paper Figs 1, 5 and 6), or all in order."""

import streamlit as st

from jepascore_core.store import Run, ScoreRule
from pages.components import extremes, live, pickers, selection_bar
from pages.components.captions import caption
from pages.components.gallery import gallery
from pages.components.grid import grid
from pages.components.guard import page
from pages.components.inspector import open_image, pick, reopen
from pages.components.opening import runs_to_explore
from pages.components.paper import paper_button

HOW = "Click an image or press Enter to inspect it; space or its mark selects it."


def draw_extremes(runs: list[Run], classes: list[str], layout: extremes.Layout, rule: ScoreRule) -> None:
    """Rows with both ends."""
    wanted = extremes.wanted_rows(runs, classes, rule)
    rows = extremes.draw_rows(extremes.page_of(wanted), layout, rule)
    empty = "Choose a run above." if not runs else "No image of these classes has a score yet."
    gallery(rows, key="extremes", columns=layout.columns, empty=empty, on_pick=pick)
    extremes.turn_pages(wanted)
    caption(runs, [pickers.scored(run) for run in runs], rule, HOW)


def draw_in_order(run: Run, classes: list[str], tag: str | None, order: str, rule: ScoreRule) -> None:
    """All images of a run in one scrolling grid."""
    listing = extremes.listing(run, classes, tag, order, rule)
    grid(listing, key="in_order", empty="No image with this class and tag has a score yet.", on_pick=pick)
    caption([run], [pickers.scored(run)], rule, HOW)


with page(
    "Class extremes",
    "Which images of a class does the encoder find least and most likely? As in Figures 1, 5 and 6 of the paper.",
):
    runs = runs_to_explore()
    labels = pickers.by_label(runs)
    family = pickers.latest_family(runs)
    with st.container(horizontal=True, vertical_alignment="center"):
        in_order = extremes.pick_view() == extremes.VIEWS[1]
        chosen = [pickers.pick_run(labels, family[0])] if in_order else pickers.pick_runs(labels, family)
        classes = extremes.pick_classes(chosen, few=not in_order)
        tag = extremes.pick_tag(chosen[0]) if in_order else None
        order = extremes.pick_order() if in_order else ""
        layout = None if in_order else extremes.pick_layout()
        rule = pickers.pick_rule(chosen)
        if layout is not None:
            st.space("stretch")
            paper_button(chosen, classes, layout.n, rule, random="random" in layout.columns)
    pickers.note_on_score(chosen, rule)

    def images() -> None:
        reopen()
        if layout is None:
            draw_in_order(chosen[0], classes, tag, order, rule)
        else:
            draw_extremes(chosen, classes, layout, rule)
        selection_bar.draw(rule)

    open_image(rule)
    live.live(images)
