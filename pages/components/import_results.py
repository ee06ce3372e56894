"""Bring in spectra or scores that others computed: a file and two names; what was found, then the run."""

import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import streamlit as st

from jepascore_core import importing, store
from jepascore_core.datasets import DATASETS
from jepascore_core.importing import ImportRequest, Results
from jepascore_core.importing.telling import facts
from jepascore_core.naming import public_id
from jepascore_core.store import Run
from pages.components import pickers
from pages.components.guard import card, guard
from pages.components.text import count, md, public_md

MOST_MB = 50  # what the server takes
_MADE = "imported_run"
_DIRECTIONS = {"in-distribution": "in", "outlier": "out"}


def draw() -> None:
    """The form; once there is a file and its names, what was found and a button that makes the run of it."""
    with card("import"):
        left, right = st.columns([5, 4], gap="medium")
        with left:
            uploaded = st.file_uploader(
                "Singular values or scores, a row an image", type=[ending[1:] for ending in importing.ENDINGS],
                key="import_file", max_upload_size=MOST_MB,
                help="It stays on this machine. Columns are told by their names: key, score, svdvals, label, "
                "embedding. Larger files: `python -m jepascore_core import`.",
            )  # fmt: skip
        with right:
            request = _ask()
        if uploaded is None or request is None:
            st.caption(
                "A file and the names of its encoder and dataset make a run, without images or encoder. Runs of one "
                "dataset name compare by their keys."
            )
            return
        with guard(), tempfile.TemporaryDirectory(prefix="jepascore-") as folder:
            path = Path(folder) / _harmless(uploaded.name)
            path.write_bytes(uploaded.getbuffer())
            _offer(replace(request, path=path, file_name=uploaded.name))


def _ask() -> ImportRequest | None:
    """The names and options; None until both names are there."""
    from jepascore_core.encoders.presets import PRESETS

    names = {spec.id: spec.name for spec in PRESETS}
    encoder = st.selectbox(
        "Encoder", list(names), index=None, format_func=lambda id: names.get(id, id), accept_new_options=True,
        key="import_encoder", placeholder="Choose, or type any name",
        help="A preset brings its null dimension along, which eq. (5) leaves out.",
    )  # fmt: skip
    held = {str(run.meta["dataset"]["id"]): None for run in store.list_runs() if run.problem is None}
    dataset = st.selectbox(
        "Dataset", list(held | dict.fromkeys(known.id for known in DATASETS)), index=None, accept_new_options=True,
        key="import_dataset", format_func=public_id, placeholder="Choose, or type any name",
        help="Runs of one dataset name compare by their keys, imported or not.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom"):
        meaning = st.segmented_control(
            "A higher given score means", list(_DIRECTIONS), default="in-distribution", required=True,
            key="import_direction", help="For scores only: spectra are scored by eq. (5). Those of the other "
            "direction get their sign turned, so that higher always means likelier.",
        )  # fmt: skip
        with st.popover("More", icon=":material/tune:"):
            column = st.text_input(
                "Column of the scores", key="import_column", placeholder="told by its name",
                help="Where it is not named score or jepa_score.",
            )  # fmt: skip
            null_dim = st.number_input(
                "Null dimension", min_value=0, value=None, key="import_null", placeholder="the preset's, else 0",
                help="Directions in which the encoder's Jacobian vanishes by construction; eq. (5) leaves them out.",
            )  # fmt: skip
            log = st.checkbox(
                "The singular values are given as log σ", key="import_log", help="They are never guessed to be."
            )
    if not encoder or not dataset:
        return None
    chosen = None if null_dim is None else int(null_dim)
    return ImportRequest(
        Path(), str(encoder), str(dataset), _DIRECTIONS.get(str(meaning), "in"), column.strip() or None, chosen, log
    )


def _offer(request: ImportRequest) -> None:
    """What was found, and the button; afterwards the way to the run."""
    with st.spinner("Reading the file…"):
        results = importing.look(request)
    st.markdown("  \n".join(md(line) for line in facts(results)))
    _show_failures(results)
    if st.button("Import", type="primary", icon=":material/download:", key="import_now"):
        st.session_state[_MADE] = replace(request, path=Path()), importing.save(results).name
    asked, name = st.session_state.get(_MADE, (None, None))
    made = next((run for run in pickers.readable_runs() if run.name == name), None)
    if made is not None and asked == replace(request, path=Path()):
        _link(made)


def _show_failures(results: Results) -> None:
    """Every reason why rows have no score, and how often."""
    reasons = Counter(results.errors.values())
    if len(reasons) > 1:
        with st.expander("Why rows have no score"):
            st.markdown("  \n".join(f"{count(n)} × {public_md(reason)}" for reason, n in reasons.most_common(12)))


def _link(run: Run) -> None:
    """To the new run."""
    label = next(label for label, known in pickers.by_label(pickers.readable_runs()).items() if known.name == run.name)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/check: **{md(label)}** is imported.", width="content")
        for page, name in (("distributions", "Distributions"), ("class_extremes", "Class extremes")):
            st.page_link(f"pages/{page}.py", label=name, query_params={"runs": label})


def _harmless(name: str) -> str:
    """A file name that no system minds, with the ending that tells the format."""
    path = Path(name)
    return (re.sub(r"[^\w.-]+", "_", path.stem)[-80:].strip(".") or "file") + re.sub(r"[^\w.]+", "", path.suffix)
