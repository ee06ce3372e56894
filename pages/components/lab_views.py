"""Eq. (4) at work: how the estimate of log p, and the order of the images, settle as augmented views are added."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from jepascore_core import views
from jepascore_core.store import Run
from jepascore_core.views_plots import ranking_plot, settling_plot
from pages.components import loaders, pickers
from pages.components.captions import caption, chart
from pages.components.gallery import Row, gallery
from pages.components.guard import card
from pages.components.inspector import open_image, pick
from pages.components.text import number, ordinal, plural
from pages.components.words import policy

COMMAND = "python -m jepascore_core score --encoder demo:jepa-tiny --dataset demo:photos --limit 60 --views 8"
SHOWN = 9  # images at each end of the moves
LEAST_IMAGES = 3  # a ranking of fewer says nothing


def draw() -> None:
    """All of it: choose a run of several views, see its estimate and its ranking settle."""
    runs = [run for run in pickers.readable_runs() if _views(run) > 1]
    if not runs:
        _nothing_yet()
        return
    open_image()
    st.caption(
        "Eq. (4) takes the mean over augmented views t: log p(x) = −log meanₜ exp(−scoreₜ). One view is eq. (5)."
    )
    with st.container(horizontal=True):
        run = pickers.pick_run(pickers.by_label(runs), runs[0])
    keys, scores = loaders.view_scores(run)
    if len(keys) < LEAST_IMAGES:
        st.caption(f"{plural(len(keys), 'image')} of this run so far; a ranking needs at least {LEAST_IMAGES}.")
        return
    settled, ranked = loaders.settling(run)
    left, right = st.columns(2, gap="small")
    with left, card("settling", height="stretch", gap="xsmall"):
        _draw_estimate(settled, scores)
    with right, card("ranking", height="stretch", gap="xsmall"):
        _draw_ranking(ranked)
    with card("moves", gap="xsmall"):
        _draw_moves(run, keys, scores)
    name = str(run.meta.get("view_policy") or "unnamed")
    caption([run], [len(keys)], pickers.RULES["Raw"], f"Views by the policy {policy(name)}.")


def _draw_estimate(frame: pd.DataFrame, scores: np.ndarray) -> None:
    """How far the estimate over t views lies from that over all."""
    st.markdown("**The estimate**")
    half, total = frame.iloc[(len(frame) - 1) // 2], len(frame)
    chart(settling_plot(frame), key="settling", alt="Distance of the estimate over t views from that over all views")
    st.caption(
        f"Eq. (4) over the first t views, against all T = {total}; 0 at T by construction. "
        f"From {plural(int(half['t']), 'view')} the median image is {number(half['median'], 2)} nats "
        f"({number(half['median_low'], 2)}–{number(half['median_high'], 2)}) away. The view with the lowest score "
        f"weighs most: the mean rests on {number(float(np.median(views.effective_views(scores))), 1)} views "
        f"of {total} (median)."
    )


def _draw_ranking(frame: pd.DataFrame) -> None:
    """How the order of the images settles."""
    st.markdown("**The ranking**")
    chart(ranking_plot(frame), key="ranking", alt="Spearman correlation of rankings from t views")
    honest = frame.dropna(subset="disjoint").iloc[-1]
    one = frame.iloc[0]
    st.caption(
        f"Blue: two disjoint sets of t views; at t = {int(honest['t'])} they agree with ρ = "
        f"{number(honest['disjoint'], 3)} ({number(honest['disjoint_low'], 3)}–{number(honest['disjoint_high'], 3)}). "
        f"Grey: the first t against all T, which share views; the plain image alone, eq. (5), gives "
        f"{number(one['first'], 3)} ({number(one['first_low'], 3)}–{number(one['first_high'], 3)}). "
        "Shaded: 95 % bootstrap intervals over images."
    )


def _draw_moves(run: Run, keys: Sequence[str], scores: np.ndarray) -> None:
    """The images that eq. (4) places most differently than eq. (5)."""
    st.markdown("**Whose place moves most from eq. (5) to eq. (4)**")
    table = views.moves(scores).assign(key=keys)
    fall, rise = table[table["move"] < 0].nsmallest(SHOWN, "move"), table[table["move"] > 0].nlargest(SHOWN, "move")
    rows = [
        Row(name, note, [_tiles(run, part)], run.name)
        for name, note, part in (("Rise", "likelier over all views", rise), ("Fall", "stranger over all views", fall))
        if len(part)
    ]
    gallery(rows, key="moves", card=False, empty="No image changes its place.", on_pick=pick)
    st.caption("On each image: percentile points that it moves. Click an image to inspect it.")


def _tiles(run: Run, part: pd.DataFrame) -> pd.DataFrame:
    """Rows of some images as the gallery wants them, with their moves in place of their scores."""
    rows = [loaders.row(run, str(key)) for key in part["key"]]
    badges = [("+" if move > 0 else "") + number(move, 0) for move in part["move"]]
    notes = [
        f"{ordinal(one)} percentile by eq. (5), {ordinal(over)} by eq. (4)"
        for one, over in zip(part["one"], part["all"], strict=True)
    ]
    return pd.DataFrame(rows).assign(score=[row["jepa_score"] for row in rows], badge=badges, note=notes)


def _views(run: Run) -> int:
    """T of a run."""
    return int(run.meta.get("views") or 1)


def _nothing_yet() -> None:
    """What to do while no run has views."""
    with card("no_views", horizontal_alignment="center", gap="xsmall"):
        st.space("small")
        st.markdown("**No run of several views yet**", text_alignment="center")
        st.caption(
            "Eq. (4) averages over augmented views of each image. Set *Views* to 8 on *Score images*, or run:",
            text_alignment="center",
        )
        st.code(COMMAND, language=None, width="content")
        if st.button("Score images", icon=":material/arrow_forward:"):
            st.switch_page("pages/score_images.py")
        st.space("small")
