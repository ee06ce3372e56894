"""A button that hands out a report: one HTML file that opens anywhere, made when it is clicked."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from jepascore_core.store import Run, ScoreRule

MOST_RUNS = 24  # of one report; the command line takes any number


def report_button(runs: Sequence[Run], rule: ScoreRule, *, key: str) -> None:
    """Offer a report on some runs; see ``report.make_report``.

    Args:
        runs: The runs, in the order of the report; at most ``MOST_RUNS`` are taken.
        rule: Convention of the score.
        key: Streamlit key, unique on the page.
    """
    told = f"the first {MOST_RUNS} of these runs" if len(runs) > MOST_RUNS else "these runs"
    st.download_button(
        "Report", partial(_make, tuple(runs[:MOST_RUNS]), rule), "jepa-score-report.html", "text/html", key=key,
        icon=":material/summarize:", on_click="ignore", disabled=not runs,
        help=f"One HTML file on {told}: provenance, distributions, separation, extremes, spectra. It needs no network.",
    )  # fmt: skip


def _make(runs: Sequence[Run], rule: ScoreRule) -> str:
    """Write the report; called by a click, away from the page's thread."""
    from jepascore_core.report import make_report  # comes with Matplotlib, which no page should wait for

    return make_report(runs, rule=rule)
