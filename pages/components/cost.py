"""What the chosen runs will take, measured on this machine before they start."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from jepascore_core import jobs, store
from jepascore_core.corrupted_id import innermost
from jepascore_core.jobs import Estimate
from jepascore_core.store.request import RunRequest
from pages.components import encode
from pages.components.guard import guard, hide_status
from pages.components.text import duration, md, plural, public_md, significant

POLL_S = 1.0


def draw(wanted: Sequence[RunRequest], names: Mapping[str, str]) -> None:
    """One short line for each encoder; looked at again while one is being measured, in a process of its own."""
    if not wanted:
        st.caption("Choose an encoder and a dataset.")
        return
    images = {request.dataset_id: _images(request) for request in wanted}
    measuring = not _settled(jobs.estimates(wanted))
    if measuring:
        hide_status()

    @st.fragment(run_every=POLL_S if measuring else None)
    def body() -> None:
        with guard():
            found = jobs.estimates(wanted)
            if measuring and _settled(found):
                st.rerun()  # which ends the looking
            encoders = dict.fromkeys(request.encoder_id for request in wanted)
            parts = {encoder: [e for e in found if e.request.encoder_id == encoder] for encoder in encoders}
            lines = [f"{md(names.get(encoder, encoder))}: {_told(parts[encoder], images)}" for encoder in encoders]
            st.caption(f"Cost of {lines[0]}" if len(lines) == 1 else "  \n".join(["Cost of the runs", *lines]))

    body()


def _settled(found: Sequence[Estimate]) -> bool:
    """Whether looking again gives nothing new."""
    return all(estimate.settled for estimate in found)


def _told(found: Sequence[Estimate], images: Mapping[str, int | None]) -> str:
    """What one encoder's runs take in all, or why that is not known."""
    for estimate in found:
        if estimate.problem:
            return f"cannot be measured: {public_md(estimate.problem)}"
    for estimate in found:
        if estimate.busy_with:
            return f"the device is busy with {md(estimate.busy_with)}; the cost is measured when it is free."
    costs = [(e.cost, images[e.request.dataset_id]) for e in found if e.cost is not None]
    if len(costs) < len(found):
        return "measuring…"
    scoring_s = sum((size or 1000) / cost.images_per_s for cost, size in costs)
    total = sum(size or 1000 for _, size in costs)
    speed = f"{significant(total / scoring_s, 2)} images/s"
    if any(size is None for _, size in costs):
        return (
            f"{speed}, about {duration(1000 * scoring_s / total)} for 1000 images; how many there are is not known yet."
        )
    whole_s = scoring_s + sum(cost.start_s for cost, _ in costs)
    return f"{plural(total, 'image')} at {speed}, about {duration(whole_s)}."


def _images(request: RunRequest) -> int | None:
    """Images that a request would score; None where only a download would tell."""
    dataset_id = request.dataset_id
    clean = innermost(dataset_id)
    if clean.startswith(("demo:", "folder:", "parquet:")) or Path(clean).is_absolute():
        return encode.sample_size(dataset_id, request.per_class, request.limit, request.classes)
    for run in store.list_runs():
        asked = (run.meta.get("request") or {}).get("dataset_id")
        if run.problem is None and dataset_id == asked and not request.classes and not request.per_class:
            size = int(run.meta["dataset"].get("size") or 0)
            return min(size, request.limit or size) or None
    return None
