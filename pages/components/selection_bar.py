"""What can be done with the selected images: tag them, take them elsewhere. It floats at the foot of a page."""

from pathlib import Path

import streamlit as st

from jepascore_core import packs, store
from jepascore_core.allowed import read_only
from jepascore_core.errors import JepaScoreError
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, selection
from pages.components.guard import guard
from pages.components.text import md, plural

_FLOAT = """<style>
[data-testid="stLayoutWrapper"]:has(> .st-key-selection_bar) { position: sticky; bottom: 12px; z-index: 90; }
.st-key-selection_bar { padding: 8px 12px; border-radius: 12px;
  background: light-dark(#ffffff, #1a1c20); border: 1px solid light-dark(#e6e5e1, #2a2d33);
  box-shadow: 0 4px 16px rgb(0 0 0 / 12%); }
</style>"""
_PACKED = "packed_selection"


def draw(rule: ScoreRule | None = None) -> None:
    """The bar, while an image is selected; call it after the galleries, within the same live part.

    Args:
        rule: Convention of the scores that an export holds.
    """
    chosen = selection.chosen()
    if not chosen:
        return
    st.html(_FLOAT)
    runs, gone = _runs(list(chosen))
    n = sum(len(keys) for keys in chosen.values())
    among = f" in {plural(len(chosen), 'run')}" if len(chosen) > 1 else ""
    with st.container(key="selection_bar", horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plural(n, 'image')} selected**{among}")
        if gone:
            st.caption(f":material/info: {plural(gone, 'run')} of them can no longer be read.")
        st.space("stretch")
        if not read_only():
            with st.popover("Tag", icon=":material/label:", key="tag_selection"), guard():
                _tag(runs)
        with st.popover("Export", icon=":material/download:", key="export_selection"), guard():
            _export(runs, rule or ScoreRule())
        st.button("Clear", key="clear_selection", on_click=selection.clear, type="tertiary")


def _runs(names: list[str]) -> tuple[dict[str, Run], int]:
    """The selected images' runs by folder name, and how many of them are gone."""
    found = {}
    for name in names:
        try:
            run = store.named_run(name)
        except JepaScoreError:
            continue
        if run.problem is None:
            found[name] = run
    return found, len(names) - len(found)


def _tag(runs: dict[str, Run]) -> None:
    """Give the selected images a tag, or take one from them."""
    known = sorted({tag.name for run in runs.values() for tag in loaders.tags(run)})
    st.caption("A tag is kept in the run's folder and goes with it wherever that goes.")
    name = st.selectbox(
        "Tag", known, index=None, key="tag_name", accept_new_options=True, placeholder="New or known tag", width=260
    )
    add, remove = st.columns(2)
    if add.button("Add", key="tag_add", disabled=not name, width="stretch"):
        chosen = selection.chosen()
        added = sum(store.add_tag(run, str(name), chosen[folder]) for folder, run in runs.items())
        st.toast(f"{plural(added, 'image')} tagged {md(name)}.")
        st.rerun()
    if remove.button("Remove", key="tag_remove", disabled=name not in known, width="stretch"):
        chosen = selection.chosen()
        removed = sum(store.remove_from_tag(run, str(name), chosen[folder]) for folder, run in runs.items())
        st.toast(f"{md(name)} taken from {plural(removed, 'image')}.")
        st.rerun()


def _export(runs: dict[str, Run], rule: ScoreRule) -> None:
    """Write the selected images to one file, then offer it."""
    titles = {name: kind.title for name, kind in packs.KINDS.items()}
    kind = st.selectbox(
        "Export as",
        list(titles),
        key="export_kind",
        format_func=titles.__getitem__,
        width=260,
        help="Tables, lists of keys, images, or what Hugging Face and FiftyOne import.",
    )
    chosen = selection.chosen()
    asked = (kind, rule, repr(chosen))
    if st.button("Make the file", key="export_make", width="stretch"):
        with st.spinner("Collecting the images…"):
            packed = packs.pack({run: chosen[folder] for folder, run in runs.items()}, str(kind), rule=rule)
        st.session_state[_PACKED] = (asked, packed)
    made = st.session_state.get(_PACKED)
    if made and made[0] == asked and Path(made[1].path).exists():
        packed = made[1]
        missing = f", {plural(packed.missing, 'image')} missing (see missing.txt)" if packed.missing else ""
        st.caption(f"{plural(packed.images, 'image')}{missing}.")
        st.download_button(
            f"Save {packed.kind.file_name}", packed.path.read_bytes(), packed.kind.file_name, packed.kind.mime,
            key="export_save", icon=":material/download:", on_click="ignore", width="stretch",
        )  # fmt: skip
