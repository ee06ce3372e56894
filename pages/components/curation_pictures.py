"""Pictures of a curation: groups of duplicates, and what a rule keeps and leaves out, with the way to export it."""

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from jepascore_core import curating, packs
from jepascore_core.curating import BRIGHTNESS, Candidates, Searched
from jepascore_core.curves import evenly
from jepascore_core.decision_plots import RULE_NAMES
from pages.components import loaders
from pages.components.curation_choice import Choice, shares
from pages.components.gallery import Row, gallery
from pages.components.inspector import pick
from pages.components.text import count, md, number, plural

Ints = NDArray[np.int64]

GROUPS = 8  # of duplicates that are shown
COPIES = 12  # images of a group that are shown
SHOWN = 30  # images that are kept, and images that are left out
_EXPORTS = ("txt", "csv", "parquet")


def draw_duplicates(choice: Choice) -> None:
    """What repeats, and what it would do."""
    searched, among = choice.searched(), choice.candidates()
    st.markdown("**Duplicates**")
    st.markdown(md(curating.sentence_on_duplicates(among, searched)))
    groups = _groups(choice)
    if groups:
        rows = [
            Row(
                plural(len(group), "image"),
                _how(choice, group),
                [_frame(choice, among, group[:COPIES])],
                choice.run.name,
            )
            for group in groups[:GROUPS]
        ]
        gallery(rows, key="duplicates", name="Groups of duplicates", card=False, size=72, on_pick=pick)
        more = f"; the {GROUPS} largest of {count(len(groups))} groups are shown" if len(groups) > GROUPS else ""
        st.caption(f"The first of each group is kept, whose key comes first{more}. {_nearest(searched)}")
    elif len(searched.index):
        st.caption(_nearest(searched))


def draw_kept(choice: Choice) -> None:
    """What one rule keeps at one share, and what it leaves out, of the whole run."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**What would be kept**", width="content")
        rule, share = _pick_shown(choice)
        st.space("stretch")
        bar = st.container(width="content")
    among = choice.candidates()
    if not len(among):
        st.caption(f"No image of this run has such a score: {choice.score_name()}.")
        return
    chosen, left = loaders.selected(choice.run, choice.by, choice.near, rule, share, choice.keep_duplicates)
    with bar:
        _export(choice, among, chosen, f"{rule}-{100 * share:g}")
    rows = [
        Row(
            title,
            plural(len(places), "image"),
            [_frame(choice, among, places[evenly(len(places), min(SHOWN, len(places)))])],
            choice.run.name,
        )
        for title, places in (("Kept", chosen), ("Left out", left))
        if len(places)
    ]
    gallery(rows, key="kept", name="Images kept and left out", card=False, on_pick=pick)
    copies = 0 if choice.keep_duplicates else len(among) - len(among.distinct())
    out = f", {plural(copies, 'duplicate')} among them" if copies else ""
    st.caption(
        f"{count(len(chosen))} of {count(len(among))} images are kept, {RULE_NAMES[rule]} {100 * share:g} % by "
        f"{choice.score_name()}; {count(len(left))} are left out{out}. Up to {SHOWN} of either are shown, evenly "
        "spaced by score, lowest first."
    )


def _nearest(searched: Searched) -> str:
    """How alike neighbours usually are."""
    if not len(nearest := searched.duplicates.nearest):
        return ""
    low, middle, high = (number(float(value), 4) for value in np.quantile(nearest, [0.05, 0.5, 0.95]))
    return (
        f"Cosine similarity of {count(len(nearest))} images to their nearest neighbour: median {middle}, 5–95 % "
        f"{low} … {high}."
    )


def _pick_shown(choice: Choice) -> tuple[str, float]:
    """Choose rule and share; kept in the URL as ``kept_by`` and ``share``."""
    names = {RULE_NAMES[rule]: rule for rule in choice.rules}
    parts = {f"{100 * share:g} %": share for share in shares()}
    first, usual = next(iter(names)), list(parts)[1]
    name = st.selectbox(
        "Rule", list(names), key="kept_by", bind="query-params", label_visibility="collapsed", width=200,
    )  # fmt: skip
    part = st.segmented_control(
        "Share", list(parts), default=usual, key="share", bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    return names[name if name in names else first], parts[part if part in parts else usual]


def _export(choice: Choice, among: Candidates, chosen: Ints, name: str) -> None:
    """Offer what is kept as a file, made when it is clicked."""
    with st.popover("Export", icon=":material/download:", key="export_kept"):
        st.caption(f"{plural(len(chosen), 'image')} that are kept.")
        for kind in _EXPORTS:
            about = packs.KINDS[kind]
            st.download_button(
                about.title, partial(_packed, choice, among, chosen, kind), f"kept-{name}.{kind}", about.mime,
                key=f"kept_{kind}", on_click="ignore", width="stretch", type="tertiary",
            )  # fmt: skip
        st.caption("`export RUN --keys kept.txt` packs the images themselves.")


def _packed(choice: Choice, among: Candidates, chosen: Ints, kind: str) -> bytes:
    """The file; called by a click, away from the page's thread."""
    return packs.packed_bytes({choice.run: among.keys_at(chosen)}, kind, rule=choice.rule)


def _groups(choice: Choice) -> list[Ints]:
    """Groups of duplicates by their positions among the candidates, the kept one first."""
    searched, among = choice.searched(), choice.candidates()
    place = np.full(len(searched.index), -1)
    known = np.flatnonzero(among.where >= 0)
    place[among.where[known]] = known
    groups = [place[group] for group in searched.duplicates.groups()]
    return [group[group >= 0] for group in groups if (group >= 0).sum() > 1]


def _how(choice: Choice, group: Ints) -> str:
    """Whether a group is of equal images."""
    searched, among = choice.searched(), choice.candidates()
    exact = len(np.unique(searched.duplicates.exact[among.where[group]])) == 1
    classes = len(np.unique(among.classes[group]))
    return ("equal embeddings" if exact else "near") + (f", {classes} classes" if classes > 1 else "")


def _frame(choice: Choice, among: Candidates, rows: Ints) -> pd.DataFrame:
    """What a gallery shows of some images."""
    frame = loaders.ranking(choice.run, choice.rule).rows(among.places[rows])
    if choice.by == BRIGHTNESS:
        frame = frame.assign(badge=[number(value, 2) for value in among.scores[rows]])
    return loaders.with_thumbnails(choice.run, frame)
