"""The form that starts runs: encoders, datasets, sample, and what it will cost."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from jepascore_core import jobs, store
from jepascore_core.datasets import DATASETS, KINDS
from jepascore_core.errors import JepaScoreError, RunError
from jepascore_core.store.request import RunRequest
from pages.components import encode
from pages.components.guard import card, guard
from pages.components.text import duration, md, number, plural

if TYPE_CHECKING:
    from jepascore_core.encoders.spec import EncoderSpec


def _presets() -> "tuple[EncoderSpec, ...]":
    """The table of encoders; it comes with torch, so the page draws its frame first."""
    from jepascore_core.encoders.presets import PRESETS

    return PRESETS


def _names() -> dict[str, str]:
    """Short name of each preset, by id."""
    return {spec.id: spec.name for spec in _presets()}


def ask_for_runs() -> None:
    """Draw the form; its button starts one process for each encoder and dataset."""
    names = _names()
    with card("new_run"):
        left, right = st.columns(2, gap="medium")
        with left:
            encoders = st.multiselect(
                "Encoders", list(names), default=["demo:jepa-tiny"], format_func=lambda id: names.get(id, id),
                accept_new_options=True, key="encoders", placeholder="Choose, or type an id",
                help="A preset, or any `timm:…`, `open_clip:…` or `file:…` id; type it and press Enter.",
            )  # fmt: skip
            with st.popover("About the encoders", type="tertiary", icon=":material/list:"):
                _preset_table()
        with right:
            datasets = st.multiselect(
                "Datasets", [known.id for known in DATASETS], default=["demo:photos"], key="datasets",
                accept_new_options=True, placeholder="Choose, or type folder:/path/to/images",
                help="A known set, or `folder:…`, `parquet:…`, `hf:…`, `torchvision:…`; type it and press Enter.",
            )  # fmt: skip
            with st.popover("About the datasets", type="tertiary", icon=":material/list:"):
                _dataset_table()
        request = _sample()
        wanted = [replace(request, encoder_id=e, dataset_id=d) for e in encoders for d in datasets]
        with guard():
            st.caption(_cost(encoders, datasets, request))
        with st.container(horizontal=True):
            label = f"Start {plural(len(wanted), 'run')}" if len(wanted) > 1 else "Start"
            if st.button(label, type="primary", icon=":material/play_arrow:", disabled=not wanted):
                _start(wanted)
            unknown = [e for e in encoders if _speed(e) is None]
            if unknown and datasets and st.button("Measure the cost", icon=":material/speed:"):
                _measure(unknown, datasets[0])


def _sample() -> RunRequest:
    """Which part of the datasets, and how."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        per_class = st.number_input("Images per class", 1, value=None, placeholder="all", width=130)
        limit = st.number_input("At most, in all", 1, value=None, placeholder="no limit", width=130)
        classes = st.text_input("Classes", placeholder="all; or names, with commas", width=220)
        seed = st.number_input("Seed", 0, value=0, width=90, help="Decides which images the sample draws.")
        views = st.number_input(
            "Views", 1, 64, 1, width=90, help="Eq. (4): average over this many augmented views; 1 is eq. (5)."
        )
        device = st.selectbox("Device", ["auto", "cpu", "cuda", "mps"], width=100)
    names = store.split_classes(classes) or None
    return RunRequest(
        encoder_id="", dataset_id="", per_class=per_class, limit=limit, seed=seed, classes=names,
        device=device, views=views,
    )  # fmt: skip


def _start(wanted: Sequence[RunRequest]) -> None:
    """Start each run in its own process; they take turns on the device."""
    for request in wanted:
        jobs.start(request)
    st.toast(f"Started {plural(len(wanted), 'run')}.", icon=":material/play_arrow:")
    st.rerun()


def _cost(encoders: Sequence[str], datasets: Sequence[str], request: RunRequest) -> str:
    """What the runs will take, from what this machine measured before; unknown stays unknown."""
    if not encoders or not datasets:
        return "Choose an encoder and a dataset."
    sizes = [_images(dataset, request) for dataset in datasets]
    known = all(size is not None for size in sizes)
    images = sum(size or 0 for size in sizes) if known else 1000
    parts = []
    for encoder in encoders:
        speed = _speed(encoder)
        name = md(_names().get(encoder, encoder))
        if speed is None:
            parts.append(f"{name}: speed on this machine unknown")
        else:
            per = "for" if known else "per"
            took = duration(images * request.views / speed)
            parts.append(f"{name}: {number(speed, 1)} images/s, {took} {per} {plural(images, 'image')}")
    return "Cost: " + "; ".join(parts) + "."


def _speed(encoder_id: str) -> float | None:
    """Images per second of this encoder here: measured just now, or in an earlier run on this machine."""
    if encoder_id in st.session_state.get("measured", {}):
        return st.session_state["measured"][encoder_id]
    return earlier_speed(encoder_id)


def earlier_speed(encoder_id: str) -> float | None:
    """Speed of the newest run of an encoder on this machine, images times views per second; None without one."""
    for run in store.list_runs():
        if run.problem is not None or run.meta["encoder"]["id"] != encoder_id:
            continue
        progress = run.progress()
        if progress.images_per_s and progress.host == platform.node():
            return progress.images_per_s * int(run.meta.get("views") or 1)
    return None


def _images(dataset_id: str, request: RunRequest) -> int | None:
    """Images that a request would score; None where only a download would tell."""
    if dataset_id.startswith(("demo:", "folder:", "parquet:")) or Path(dataset_id).is_absolute():
        return encode.sample_size(dataset_id, request.per_class, request.limit, request.classes)
    for run in store.list_runs():
        asked = run.meta.get("request", {}).get("dataset_id")
        if run.problem is None and dataset_id == asked and not request.classes and not request.per_class:
            size = int(run.meta["dataset"].get("size") or 0)
            return min(size, request.limit or size) or None
    return None


def _measure(encoders: Sequence[str], dataset_id: str) -> None:
    """Score a few images with each encoder and remember the speed for this session."""
    measured = dict(st.session_state.get("measured", {}))
    for encoder in encoders:
        with st.spinner(f"Measuring {md(_names().get(encoder, encoder))}…"):
            try:
                measured[encoder] = encode.probe(encoder, dataset_id)
            except JepaScoreError as error:
                raise RunError(f"{encoder} could not be measured: {error}") from error
    st.session_state["measured"] = measured
    st.rerun()


def _preset_table() -> None:
    """All presets with what decides their use."""
    facts = [
        {
            "Encoder": spec.name, "Id": spec.id, "D": spec.embedding_dim, "Input": f"{spec.input_size[-1]} px",
            "Embedding": spec.pooling, "Null dim.": spec.null_dim, "Licence": spec.licence, "Paper": spec.paper,
        }
        for spec in _presets()
    ]  # fmt: skip
    st.dataframe(pd.DataFrame(facts), hide_index=True, width=860, alt="Encoder presets")
    st.caption("Pretrained weights are fetched once by timm or open_clip; `file:` reads a checkpoint that you have.")


def _dataset_table() -> None:
    """All known datasets with what they need."""
    facts = [
        {"Id": row.id, "Dataset": row.name, "About": row.description, "Needs": row.needs, "Terms": row.licence}
        for row in (*DATASETS, *KINDS)
    ]
    st.dataframe(pd.DataFrame(facts), hide_index=True, width=860, alt="Known datasets")
