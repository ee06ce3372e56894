"""The form that starts runs: encoders, datasets, sample, and what it will cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from jepascore_core import jobs, store
from jepascore_core.cluster import INSTALL, has_ray
from jepascore_core.corrupted_id import corrupted_id
from jepascore_core.datasets import DATASETS, KINDS
from jepascore_core.datasets.corruptions import CORRUPTIONS, SEVERITIES
from jepascore_core.store.request import ENGINES, PRECISIONS, RunRequest
from pages.components import cost
from pages.components.guard import card, guard
from pages.components.text import plural
from pages.components.words import policy

if TYPE_CHECKING:
    from jepascore_core.encoders.spec import EncoderSpec

_ENGINE_NAMES = {"local": "This process", "ray": "Ray"}


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
                help="A preset, or any `timm:…`, `open_clip:…` or `file:…` id; type it and press Enter. "
                "`@layer2` behind it scores the features behind its second layer.",
            )  # fmt: skip
            with st.popover("About the encoders", type="tertiary", icon=":material/list:"):
                _preset_table()
        with right:
            datasets = st.multiselect(
                "Datasets", [known.id for known in DATASETS], default=["demo:photos"], key="datasets",
                accept_new_options=True, placeholder="Choose, or type folder:/path/to/images",
                help="A known set, or `folder:…`, `parquet:…`, `hf:…`, `torchvision:…`; type it and press Enter.",
            )  # fmt: skip
            with st.container(horizontal=True):
                with st.popover("About the datasets", type="tertiary", icon=":material/list:"):
                    _dataset_table()
                with st.popover("Corrupt images", type="tertiary", icon=":material/blur_on:"):
                    datasets += _corrupted(datasets)
        request = _sample()
        wanted = [replace(request, encoder_id=e, dataset_id=d) for e in encoders for d in datasets]
        with guard():
            cost.draw(wanted, names)
        with st.container(horizontal=True):
            label = f"Start {plural(len(wanted), 'run')}" if len(wanted) > 1 else "Start"
            if st.button(label, type="primary", icon=":material/play_arrow:", disabled=not wanted):
                _start(wanted)
            if wanted and st.button("Measure again", type="tertiary", icon=":material/refresh:"):
                jobs.forget(wanted)
                st.rerun()


def _corrupted(datasets: Sequence[str]) -> list[str]:
    """Ids of the chosen datasets under the corruptions that are asked for, to be scored beside the clean ones."""
    kinds = st.pills("Corruptions", list(CORRUPTIONS), selection_mode="multi", key="corruptions")
    severities = st.pills("Severity", SEVERITIES, selection_mode="multi", default=[3], key="severities")
    st.caption(
        "Adds a run of each dataset, each kind and each severity, with the same images. "
        "Sensitivity shows whether the score notices."
    )
    return [corrupted_id(kind, severity, d) for d in datasets for kind in kinds for severity in sorted(severities)]


def _sample() -> RunRequest:
    """Which part of the datasets, and how."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        per_class = st.number_input(
            "Images per class", 1, value=None, placeholder="all", width=140, help="Most images drawn from each class.",
        )  # fmt: skip
        limit = st.number_input(
            "At most, in all", 1, value=None, placeholder="no limit", width=130,
            help="Most images of a run; classes are taken in turn.",
        )  # fmt: skip
        classes = st.text_input(
            "Classes", placeholder="all; or names, with commas", width=200, help="Only these classes are scored.",
        )  # fmt: skip
        seed = st.number_input("Seed", 0, value=0, width=90, help="Decides which images the sample draws.")
        views = st.number_input(
            "Views",
            1,
            64,
            1,
            width=90,
            help=f"T of eq. (4): average over this many augmented views; 1 is eq. (5). Policy {policy()}.",
        )
        device = st.selectbox(
            "Device", ["auto", "cpu", "cuda"], width=110, help="auto takes a GPU where there is one.",
        )  # fmt: skip
        with st.popover("More", icon=":material/tune:"):
            precision, tolerance, memory_share = _precision()
            engine, address, workers = _engine()
    names = store.split_classes(classes) or None
    return RunRequest(
        encoder_id="", dataset_id="", per_class=per_class, limit=limit, seed=seed, classes=names,
        device=device, views=views, precision=precision, tolerance=tolerance, memory_share=memory_share,
        engine=engine, address=address, workers=workers,
    )  # fmt: skip


def _precision() -> tuple[str, float | None, float]:
    """How exactly to compute, and how much memory to take."""
    precision = st.selectbox(
        "Precision", PRECISIONS,
        help="`auto` starts in float16 on a CUDA device, where it is many times faster, and is float32 elsewhere. "
        "Each score carries a measured error bar.",
    )  # fmt: skip
    tolerance = st.number_input(
        "Tolerance, nats", min_value=1e-6, value=None, format="%g", placeholder="0.5 % of the spread, at least 0.05",
        help="An image whose error bar exceeds it is scored again one precision up, to float32 at most.",
    )  # fmt: skip
    percent = st.slider(
        "Share of the free memory", 10, 100, 80, 5, format="%d %%",
        help="Scoring keeps within this share of what is free on the device when it begins.",
    )  # fmt: skip
    return precision, tolerance, percent / 100


def _engine() -> tuple[str, str | None, int | None]:
    """Who scores: one process, or workers of a Ray cluster; with the cluster and the number of workers."""
    if not has_ray():
        st.caption(f"Scoring on several GPUs or machines needs Ray: `{INSTALL}`.")
        return "local", None, None
    engine = st.segmented_control(
        "Engine", ENGINES, default="local", required=True, key="engine", format_func=_ENGINE_NAMES.__getitem__,
        help="Ray scores with several GPUs or machines; the run is the same, and either engine resumes it.",
    )  # fmt: skip
    if engine != "ray":
        return "local", None, None
    with st.container(horizontal=True):
        workers = st.number_input(
            "Workers", 1, value=None, placeholder="all GPUs", key="workers", width=150,
            help="Processes with an encoder each: one for each GPU; where there is none, one for each node.",
        )  # fmt: skip
        address = st.text_input(
            "Cluster", placeholder="this machine", key="address", width=180,
            help="`auto` for the Ray cluster that this machine belongs to, or `host:port`. The runs folder and the "
            "images must lie where all its nodes can reach them.",
        )  # fmt: skip
    st.caption("The cost is that of one process on this machine.")
    return engine, address.strip() or None, workers


def _start(wanted: Sequence[RunRequest]) -> None:
    """Start each run in its own process; they take turns on the device."""
    for request in wanted:
        jobs.start(request)
    st.toast(f"Started {plural(len(wanted), 'run')}.", icon=":material/play_arrow:")
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
