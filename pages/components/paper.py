"""The figure for print: the page's rows as PDF, SVG or PNG, drawn when a format is clicked."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from jepascore_core.naming import is_imported
from jepascore_core.paper_layout import KINDS, MM, MOST_IMAGES, describe, paper_rows, side_mm
from jepascore_core.store import Run, ScoreRule
from pages.components.text import count, number

WIDTHS_MM = {"One column, 88 mm": 88.0, "Full width, 180 mm": 180.0}
_FULL = "Full width, 180 mm"
_THUMBNAIL_PX = 160


def paper_button(runs: Sequence[Run], classes: Sequence[str], n: int, rule: ScoreRule, *, random: bool = False) -> None:
    """Offer the figure of some classes under some runs; see ``paper_layout.paper_rows``.

    Args:
        runs: Runs shown.
        classes: Classes shown; none means one row for all images of a run.
        n: Images at each end.
        rule: Convention of the score.
        random: Add a row of random images to each class.
    """
    without = all(map(is_imported, runs))  # none, or none with images
    with st.popover("Export figure", icon=":material/download:", disabled=without), st.container(width=340):
        wanted = st.segmented_control(
            "Width",
            list(WIDTHS_MM),
            default=_FULL,
            required=True,
            key="paper_width",
            help="One or two columns of a printed page.",
        )
        show_scores = st.toggle("Scores beneath the images", value=True, key="paper_scores")
        width_mm = WIDTHS_MM.get(wanted or _FULL, WIDTHS_MM[_FULL])
        side = side_mm([n, n], width_mm)
        too_many = 2 * n * max(1, len(classes)) * (len(runs) + random) > MOST_IMAGES
        with st.container(horizontal=True):
            for kind, mime in KINDS.items():
                st.download_button(
                    kind.upper(), partial(_draw, runs, classes, n, rule, kind, width_mm, show_scores, random=random),
                    f"class-extremes.{kind}", mime, key=f"paper_{kind}", on_click="ignore", disabled=too_many,
                )  # fmt: skip
        if too_many:
            st.caption(f":orange[A figure holds at most {count(MOST_IMAGES)} images: choose fewer classes or runs.]")
        st.caption(
            f"{n} least and {n} most likely of each row, as in Figures 1, 5 and 6, for print. Images are "
            f"{number(side, 1)} mm wide, at most {number(_THUMBNAIL_PX / (side * MM), 0)} dpi: a thumbnail has up to "
            f"{_THUMBNAIL_PX} px a side. PDF and SVG keep text as text; PNG has 300 dpi."
        )


def _draw(
    runs: Sequence[Run],
    classes: Sequence[str],
    n: int,
    rule: ScoreRule,
    kind: str,
    width_mm: float,
    show_scores: bool,
    *,
    random: bool,
) -> bytes:
    """Draw the figure; called by a click, away from the page's thread."""
    from jepascore_core.paper_figure import paper_figure  # comes with Matplotlib, which no page should wait for

    rows = paper_rows(runs, classes, n=n, rule=rule, random=random)
    return paper_figure(rows, kind, width_mm=width_mm, show_scores=show_scores, about=describe(runs, rule))
