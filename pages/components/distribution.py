"""Parts of the distributions page: the curves, and the images that were brushed or clicked."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from jepascore_core.curves import Span, between, evenly, fair_shares, lowest, quantile
from jepascore_core.distribution_plots import SHAPES
from jepascore_core.plots import SCORE_AXIS
from jepascore_core.store import ScoreRule
from pages.components import brush, loaders, pickers
from pages.components.captions import caption
from pages.components.curves import Drawn, Shape
from pages.components.gallery import Row, gallery
from pages.components.inspector import pick
from pages.components.steady import steady
from pages.components.text import count, md, number, plural

SHOWN, SHOWN_WIDE = 24, 64  # images of a range, beside the table and in the whole width
TILE_PX = 72  # in the whole width
MOST_ROWS = 8  # curves of which images are shown
NEIGHBOURS = 12
SIDE_BY_SIDE = 6  # curves whose images fit beside the table
_MANY = 6  # curves of a panel; more are easier to read as ridges
_TOLD = 12  # medians in the words for screen readers

Places = NDArray[np.int64]


def warn_about_encoders(drawn: Sequence[Drawn]) -> None:
    """Say that scores of different encoders share no scale."""
    if len({item.curve.scale for item in drawn}) > 1:
        st.caption(
            ":material/info: These runs come from different encoders. Each has its own panel and its own axis: "
            "the scores share no scale, only the order within a panel means something."
        )


def draw_curves(drawn: Sequence[Drawn], shape: Shape, rule: ScoreRule) -> None:
    """Draw the curves; what is brushed or clicked in them, ``brush`` knows."""
    brush.belongs_to((rule, shape.per_class, tuple(_titles(drawn))))
    runs = list({item.run.name: item.run for item in drawn}.values())
    what = (shape, rule, tuple(item.identity for item in drawn))
    span = brush.to_draw(what)

    def figure() -> go.Figure:
        made = SHAPES[shape.name]([item.curve for item in drawn], brush=span)
        title = SCORE_AXIS.replace("JEPA-SCORE", pickers.score_title(rule))
        return made.for_each_xaxis(lambda axis: axis.update(title_text=title), {"title.text": SCORE_AXIS})

    steady(
        figure, (what, span, brush.turn()), key="curves", alt=_in_words(drawn, shape, rule), on_select=brush.listen,
        growing=any(run.progress().active for run in runs),
    )  # fmt: skip
    brush.listen_to_dots("steady_curves")
    caption(runs, [pickers.scored(run) for run in runs], rule, _note(drawn, shape))


def places(drawn: Sequence[Drawn]) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Where the table and the images go: side by side, or for many curves the images above it in the whole width."""
    if _wide(drawn):
        images, table = st.container(), st.container()
    else:
        table, images = st.columns([9, 5], gap="small")
    return table, images


def draw_selection(drawn: Sequence[Drawn]) -> None:
    """Images of the brushed range or near the clicked dot; before any, the lowest scores of the first panel."""
    span, dot, titles = brush.brushed(), brush.clicked(), _titles(drawn)
    image = next((item for item in drawn if dot and item.run.name == dot[0]), None)
    if span and span.panel < len(titles):
        _draw_range("Brushed", span, drawn)
    elif dot and image and image.held.place_of(dot[1]) is not None:
        _draw_neighbours(image, dot[1])
    else:
        first = [item.curve for item in drawn if item.curve.panel == titles[0]]
        low = min(float(curve.scores[0]) for curve in first)
        _draw_range("Lowest 5 %", Span(0, low, lowest(first, 0.05)), drawn)
        st.caption("Drag across the chart to see another range, or click a dot.")
        return
    st.button("Back to the lowest 5 %", type="tertiary", icon=":material/close:", on_click=brush.forget, key="forget")


def _draw_range(heading: str, span: Span, drawn: Sequence[Drawn]) -> None:
    """Images between two scores, of every curve of a panel, whether drawn as dots or not."""
    titles = _titles(drawn)
    panel = [item for item in drawn if item.curve.panel == titles[span.panel]]
    inside = [(item, item.places[between(item.curve.scores, span.low, span.high)]) for item in panel]
    total = sum(len(places) for _, places in inside)
    where = f", {md(titles[span.panel])}" if len(titles) > 1 else ""
    st.markdown(
        f"**:orange[{heading}{where}: {number(span.low, 1)} to {number(span.high, 1)} nats, {plural(total, 'image')}]**"
    )
    touched = sorted((part for part in inside if len(part[1])), key=lambda part: -len(part[1]))
    shown, rest = touched[:MOST_ROWS], touched[MOST_ROWS:]
    wide = _wide(drawn)
    shares = fair_shares([len(places) for _, places in shown], SHOWN_WIDE if wide else SHOWN)
    few = [(item, places[evenly(len(places), share)]) for (item, places), share in zip(shown, shares, strict=True)]
    rows = [
        Row(item.curve.name, plural(len(places), "image"), [frame], item.run.name)
        for (item, places), frame in zip(shown, _pictures(few), strict=True)
    ]
    empty = "No image lies in this range."
    gallery(
        rows, key="brushed", name="Images in the range", empty=empty, card=False, size=TILE_PX if wide else None,
        on_pick=pick,
    )  # fmt: skip
    seen = sum(len(places) for _, places in few)
    if seen < total:
        others = sum(len(places) for _, places in rest)
        more = (
            f" {plural(others, 'image')} belong to {plural(len(rest), 'curve')} without pictures here." if rest else ""
        )
        st.caption(f"{count(seen)} of {count(total)} shown, evenly spaced by rank.{more}")


def _draw_neighbours(item: Drawn, key: str) -> None:
    """The clicked image among those that stand next to it in its run."""
    st.markdown("**Nearest in score to the clicked image**")
    n, place = len(item.held), item.held.place_of(key) or 0
    start = max(0, min(place - NEIGHBOURS // 2, n - NEIGHBOURS))
    (frame,) = _pictures([(item, np.arange(start, min(start + NEIGHBOURS, n)))])
    gallery(
        [Row("", "", [frame], item.run.name)], key="clicked", name="Neighbours in score", card=False,
        selected=(item.run.name, key), on_pick=pick,
    )  # fmt: skip


def _pictures(parts: Sequence[tuple[Drawn, Places]]) -> list[pd.DataFrame]:
    """What a gallery shows of some images; each run is asked for pictures once."""
    frames = [item.held.rows(places, item.class_name) for item, places in parts]
    for run in {item.run.name: item.run for item, _ in parts}.values():
        mine = [frame["index"] for (item, _), frame in zip(parts, frames, strict=True) if item.run.name == run.name]
        loaders.thumbnails(run, pd.concat(mine).tolist())  # they stay in memory
    return [loaders.with_thumbnails(item.run, frame) for (item, _), frame in zip(parts, frames, strict=True)]


def _wide(drawn: Sequence[Drawn]) -> bool:
    """Whether the images of so many curves need the whole width."""
    return len({item.curve.name for item in drawn}) > SIDE_BY_SIDE


def _titles(drawn: Sequence[Drawn]) -> list[str]:
    """Titles of the panels, in their order."""
    return list(dict.fromkeys(item.curve.panel for item in drawn))


def _note(drawn: Sequence[Drawn], shape: Shape) -> str:
    """What the dots are, and what to do with them."""
    dots, images = sum(len(item.curve.ranks) for item in drawn), sum(len(item.places) for item in drawn)
    which = (
        "Each dot is an image"
        if dots == images
        else f"{count(dots)} of {count(images)} images are dots, evenly spaced by rank; curves and brush hold all"
    )
    how = {"Ridgeline": " All ridges are equally high; the short line is the median."}.get(shape.name, "")
    most = max(sum(item.curve.panel == title for item in drawn) for title in _titles(drawn))
    hint = " So many curves are easier to read as a ridgeline." if most > _MANY and shape.name != "Ridgeline" else ""
    return f"{which}; click one, or drag across the axis, to see images.{how}{hint}"


def _in_words(drawn: Sequence[Drawn], shape: Shape, rule: ScoreRule) -> str:
    """What the figure shows, for who does not see it."""
    several = len(_titles(drawn)) > 1
    told = [
        f"{item.curve.name}{f' under {item.curve.panel}' if several else ''} median "
        f"{number(quantile(item.curve.scores, 0.5), 1)}"
        for item in drawn[:_TOLD]
    ]
    more = f" and {len(drawn) - _TOLD} more" if len(drawn) > _TOLD else ""
    return f"{shape.name} of the {pickers.score_title(rule)}: {', '.join(told)} nats{more}"
