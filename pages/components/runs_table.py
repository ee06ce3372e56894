"""All runs, with their state and what they hold; broken folders with the reason."""

from datetime import datetime

import pandas as pd
import streamlit as st

from jepascore_core.naming import public_id
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, pickers
from pages.components.report import MOST_RUNS, report_button
from pages.components.text import count, md, number, public_md

STATES = {
    "done": "Done",
    "running": "Running",
    "waiting": "Waiting",
    "queued": "Queued",
    "cancelled": "Cancelled",
    "failed": "Failed",
    "interrupted": "Interrupted",
}


def draw() -> None:
    """The table of runs, newest first, and a line for each folder that cannot be read."""
    runs = pickers.readable_runs(filled=False)
    if runs:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.subheader("Runs", anchor=False)
            newest = [run for run in runs if pickers.scored(run)][:MOST_RUNS]
            report_button(newest[::-1], ScoreRule(), key="report_runs")
        labels = pickers.by_label(runs)
        frame = pd.DataFrame([_facts(label, run) for label, run in labels.items()])
        st.dataframe(
            frame, hide_index=True, alt="Runs with their state, number of images, failures and median score",
            column_config={
                "State": st.column_config.TextColumn(width=96),
                "Images": st.column_config.TextColumn(alignment="right", width=88),
                "Failed": st.column_config.TextColumn(alignment="right", width=88, help="Images that have no score"),
                "Median (nats)": st.column_config.TextColumn(alignment="right", width=100),
                "Created": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm", width=150),
            },
        )  # fmt: skip
    for run in runs:
        if run.warning:
            st.warning(f"**{md(run.label)}**: {public_md(run.warning)}", icon=":material/warning:")
    for run in pickers.broken_runs():
        st.warning(f"**{md(run.name)}** cannot be shown: {public_md(run.problem)}", icon=":material/folder_off:")


def _facts(label: str, run: Run) -> dict[str, object]:
    """One line of the table."""
    progress = run.progress()
    counts = loaders.counts(run)
    state = STATES.get(progress.state, progress.state)
    behind = counts["done"] + counts["failed"]
    return {
        "Run": label,
        "State": state if progress.state == "done" else f"{state}, {100 * behind // max(1, counts['planned'])} %",
        "Images": count(counts["done"]),
        "Failed": count(counts["failed"]),
        "Median (nats)": number(loaders.median(run), 2),
        "Encoder": public_id(str(run.meta["encoder"]["id"])),
        "Dataset": public_id(str(run.meta["dataset"]["id"])),
        "Created": _moment(run),
    }


def _moment(run: Run) -> datetime | None:
    """When a run was made."""
    try:
        return datetime.fromisoformat(str(run.meta.get("created")))
    except ValueError:
        return None
