"""The images behind the numbers: what a threshold flags, the most and least outlying, and where methods disagree."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from jepascore_core.outlier_plots import values_chart
from jepascore_core.outliers import (
    Decision,
    Evaluation,
    Judged,
    Rows,
    as_csv,
    decide,
    decision_table,
    disagreements,
    most_outlying,
    percentiles,
)
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, selection
from pages.components.captions import chart
from pages.components.gallery import Row, gallery
from pages.components.inspector import pick
from pages.components.outliers_choice import Choice
from pages.components.outliers_compare import titled
from pages.components.text import count, listed, md, number, ordinal, plural, significant

FLAGGED = 15  # images shown of each run
ENDS = 6  # most and least outlying of each run
DISAGREE = 14
TILE_PX = 72
SHARE = 5  # % of in-distribution images flagged at first: TPR 95 %
SIDES = ("Low values", "High values")


def draw_decision(choice: Choice, found: Evaluation, judged: Judged) -> None:
    """A threshold, what it flags, and ways to take that along."""
    st.markdown("**What a threshold flags**")
    low, share = _pick_threshold(found, judged)
    decision = decide(judged, share, flag_low=low)
    sets = [
        (choice.name(run), choice.colours[run.name], values[np.isfinite(values)])
        for run, values in zip(choice.runs, (judged.values_in, *judged.values_out), strict=True)
    ]
    axis = f"{judged.method.title} (nats)" if judged.method.is_score else judged.method.title
    figure = values_chart(sets, decision.threshold, flag_low=low, axis=axis)
    words = "; ".join(f"{name} {_share(mask)}" for name, mask in zip(_names(choice), _masks(decision), strict=True))
    chart(figure, key="values", alt=f"Values of {judged.method.title} with the threshold; flagged: {words}")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**:orange[Flagged: {'; '.join(_told(choice, decision))}]**")
        with st.container(horizontal=True, width="content", vertical_alignment="center"):
            _take_along(choice, found, judged, decision)
    rows = []
    for number_, (run, mask) in enumerate(zip(choice.runs, _masks(decision), strict=True)):
        values = _values(judged, number_)
        places = most_outlying(np.where(mask, values, np.nan), FLAGGED, flag_low=low)
        if len(places):
            frame = _tiles(run, found, judged, number_, places)
            rows.append(Row(choice.name(run), f"{count(int(mask.sum()))} flagged", [frame], run.name))
    gallery(rows, key="flagged", size=TILE_PX, name="Flagged images", card=False, empty="Nothing is flagged.",
            on_pick=pick)  # fmt: skip
    if any(int(mask.sum()) > FLAGGED for mask in _masks(decision)):
        st.caption(f"The {FLAGGED} most outlying flagged images of each run. {_badge_words(judged)}")
    else:
        st.caption(_badge_words(judged))


def draw_ends(choice: Choice, found: Evaluation, judged: Judged) -> None:
    """The most and the least outlying images of every run."""
    rows = []
    for number_, run in enumerate(choice.runs):
        values = _values(judged, number_)
        ends = [most_outlying(values, ENDS, flag_low=low) for low in (True, False)]
        groups = [_tiles(run, found, judged, number_, places) for places in ends]
        role = "in-distribution" if number_ == 0 else "other"
        rows.append(Row(choice.name(run), f"{role}, {plural(len(values), 'image')}", groups, run.name))
    gallery(
        rows, key="ends", columns=("least", "most"), titles=("Most outlying", "Least outlying"), card=False,
        size=TILE_PX, on_pick=pick,
    )  # fmt: skip
    st.caption(f"By {md(titled(judged.method))}, low values outlying. {_badge_words(judged)}")


def draw_disagreements(choice: Choice, found: Evaluation, judged: Judged, versus: Judged) -> None:
    """Images on which two methods differ most."""
    first, second = judged.method.title, versus.method.title
    if judged is versus:
        st.caption("Choose two different methods.")
        return
    shares = percentiles(judged), percentiles(versus)
    ways = disagreements(judged, versus, DISAGREE)
    for (outlying, usual), places, key in zip(
        ((first, second), (second, first)), ways, ("first", "second"), strict=True
    ):
        st.markdown(f"**Outlying by {md(outlying)}, not by {md(usual)}**")
        rows = []
        for number_, run in enumerate(choice.runs):
            mine = np.array([place for number, place in places if number == number_], dtype=np.int64)
            if not len(mine):
                continue
            pairs = [(shares[0][number_][place], shares[1][number_][place]) for place in mine]
            frame = _tiles(run, found, judged, number_, mine).assign(
                badge=[f"{a:.0f} · {b:.0f}" for a, b in pairs],
                note=[f"{ordinal(a)} by {first}, {ordinal(b)} by {second}" for a, b in pairs],
            )
            rows.append(Row(choice.name(run), plural(len(mine), "image"), [frame], run.name))
        gallery(rows, key=f"differ_{key}", size=TILE_PX, card=False, empty="No such image.", on_pick=pick,
                name=f"Images that {outlying} finds outlying and {usual} does not")  # fmt: skip
    st.caption(
        f"Largest differences of the ranks among all {plural(sum(map(len, shares[0])), 'image')}. On each image: its "
        f"percentile by {md(first)} · by {md(second)}, 0 the most outlying."
    )


def _pick_threshold(found: Evaluation, judged: Judged) -> tuple[bool, float]:
    """Which side is flagged, and how many in-distribution images may be; in the URL as ``flag`` and ``share``."""
    inverted = [
        md(one.out)
        for one in found.findings
        if one.method.name == judged.method.name and one.metrics.direction == "inverted"
    ]
    left, right = st.columns([2, 5], gap="medium", vertical_alignment="bottom")
    with left:
        side = st.segmented_control(
            "Flag", SIDES, default=SIDES[0], key="flag", bind="query-params", required=True,
            help="Which side is outlying. Low values should be; where the direction is inverted, high ones are.",
        )  # fmt: skip
    with right:
        share = st.slider(
            "In-distribution images that may be flagged (%)", 0.0, 50.0, float(SHARE), 0.5, key="share",
            bind="query-params", format="%.1f %%",
            help="Sets the threshold: 5 % keeps 95 % of the in-distribution images, the TPR of FPR95.",
        )  # fmt: skip
    if inverted and side != SIDES[1]:
        st.caption(
            f":material/info: {md(judged.method.title)} is inverted against {listed(inverted)}: there the *high* "
            "values are the outliers, and low ones flag the wrong images."
        )
    return side != SIDES[1], float(share)


def _take_along(choice: Choice, found: Evaluation, judged: Judged, decision: Decision) -> None:
    """Select the flagged images, or save the decision about all."""

    def select() -> None:
        for number_, (run, mask) in enumerate(zip(choice.runs, _masks(decision), strict=True)):
            keys = _rows(found, number_).keys[mask]
            selection.change(((run.name, str(key)) for key in keys), on=True)

    total = sum(int(mask.sum()) for mask in _masks(decision))
    st.button("Select them", key="select_flagged", type="tertiary", on_click=select, disabled=not total,
              help="Selected images can be tagged and exported, here and on other pages.")  # fmt: skip
    st.download_button(
        "Save decision", as_csv(decision_table(found, judged, decision)), "outliers.csv", "text/csv", on_click="ignore",
        key="save_decision", icon=":material/download:",
        help="CSV of all images: run, role, key, class, method, value, flagged.",
    )  # fmt: skip


def _tiles(run: Run, found: Evaluation, judged: Judged, number_: int, places: NDArray[np.int64]) -> pd.DataFrame:
    """Images as the gallery takes them, with the method's value as the badge."""
    keys = [str(key) for key in _rows(found, number_).keys[places]]
    held = loaders.ranking(run, ScoreRule())
    frame = held.rows(held.places_of(keys)).set_index("key", drop=False)
    frame = frame.loc[[key for key in keys if key in frame.index]].reset_index(drop=True)
    values = dict(zip(keys, _values(judged, number_)[places], strict=True))
    inside = np.sort(judged.values_in[np.isfinite(judged.values_in)])
    told = [_value(judged, values[key]) for key in frame["key"]]
    below = [100 * np.searchsorted(inside, values[key]) / max(len(inside), 1) for key in frame["key"]]
    return loaders.with_thumbnails(run, frame).assign(
        badge=told,
        note=[
            f"{judged.method.title} {value}, above {share:.0f} % of {found.inside.name}"
            for value, share in zip(told, below, strict=True)
        ],
    )


def _value(judged: Judged, value: float) -> str:
    return number(value, 1) if judged.method.is_score else significant(value)


def _values(judged: Judged, number_: int) -> NDArray[np.float64]:
    """Values of one set; 0 is the in-distribution one."""
    return judged.values_in if number_ == 0 else judged.values_out[number_ - 1]


def _rows(found: Evaluation, number_: int) -> Rows:
    """Rows of one set; 0 is the in-distribution one."""
    return found.inside if number_ == 0 else found.others[number_ - 1]


def _masks(decision: Decision) -> Sequence[NDArray[np.bool_]]:
    return (decision.inside, *decision.others)


def _names(choice: Choice) -> list[str]:
    return [choice.name(run) for run in choice.runs]


def _share(mask: NDArray[np.bool_]) -> str:
    flagged = int(mask.sum())
    return f"{count(flagged)} of {count(len(mask))} ({number(100 * flagged / max(len(mask), 1), 1)} %)"


def _told(choice: Choice, decision: Decision) -> list[str]:
    """How many of each run are flagged."""
    return [f"{md(name)} {_share(mask)}" for name, mask in zip(_names(choice), _masks(decision), strict=True)]


def _badge_words(judged: Judged) -> str:
    unit = " in nats" if judged.method.is_score else ""
    return f"On each image: the value of {md(judged.method.title)}{unit}. Click one to inspect it."
