"""Two encoders, an image a dot: the scatter, what is selected in it, and where the encoders differ most."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from jepascore_core.compare_plots import agreement_scatter
from jepascore_core.comparison import strangest
from jepascore_core.store import Common
from pages.components import loaders, pickers
from pages.components.captions import brushable
from pages.components.compare_boxes import Box, boxes_of, chart_key, clear, first_boxes
from pages.components.compare_choice import Choice, told_caption
from pages.components.gallery import Row, gallery
from pages.components.guard import card
from pages.components.hover import pictures_over
from pages.components.inspector import pick
from pages.components.text import count, md, ordinal, plural

MOST_DOTS = 5000
PICTURES = 400  # thumbnails to read for the dots
PICTURES_OF_MANY = 150  # the same in a run of more than 20,000 images, where each costs a millisecond
PICTURE_BYTES = 1_300_000  # to send; with the dots themselves at most 2 MB
TILES = 10  # images of each kind of disagreement
SELECTED = 20  # images shown of a selection
TILE_PX = 64


def draw_scatter(choice: Choice, common: Common) -> list[Box]:
    """The first two encoders, an image a dot; returns the boxes that were drawn in it."""
    drawn, key = dots(common, MOST_DOTS), chart_key(choice)
    points = _points(choice, common, drawn)
    run, names = choice.runs[0], (choice.names[0], choice.names[1])
    figure = agreement_scatter(
        points, names, colour=pickers.colours([run])[run.name], percentiles=choice.percentiles,
        of="class" if choice.in_class and common.has_classes else "run", score=pickers.score_title(choice.rule),
    )  # fmt: skip
    for box in first_boxes(key):
        figure.add_selection(x0=box["x"][0], x1=box["x"][1], y0=box["y"][0], y1=box["y"][1])
    selection = brushable(
        figure, key=key, alt=f"Scores of {plural(len(drawn), 'image')} under {names[0]} and {names[1]}"
    )
    pictured = _pictured(common, drawn, points)

    key_of = dict(zip(points["index"].tolist(), points["key"], strict=True))

    def inspect(index: int) -> None:  # the session keeps it, so that it must not hold all images
        if index in key_of:
            pick(run.name, str(key_of[index]))

    jpegs = loaders.thumbnails(run, pictured)
    pictures = {index: jpegs[index] for index in pictured if index in jpegs}
    sent = pictures_over(key, pictures, most_bytes=PICTURE_BYTES, on_click=inspect)
    notes = ["An image a dot; click one to inspect it, drag a box to see all images in it."]
    if len(drawn) < len(common):
        notes.insert(0, f"Drawn: a random {count(len(drawn))} of {plural(len(common), 'image')}.")
    if 0 < sent < len(drawn):
        notes.append(f"{count(sent)} dots show their picture, first of all where the encoders differ most.")
    if not choice.percentiles:
        notes.append("The two axes share no scale: only the order along each means something.")
    told_caption(choice, common, " ".join(notes), first=2)
    return boxes_of(selection, key)


def dots(common: Common, most: int, seed: int = 0) -> NDArray[np.int64]:
    """Images to draw: all, or a seeded sample of them, ascending."""
    if len(common) <= most:
        return np.arange(len(common))
    return np.sort(np.random.default_rng(seed).choice(len(common), most, replace=False))


def _points(choice: Choice, common: Common, images: NDArray[np.int64]) -> pd.DataFrame:
    """What the scatter draws of some images."""
    x, y = (common.rows(encoder, images, in_class=choice.in_class) for encoder in (0, 1))
    axis = "percentile" if choice.percentiles else "score"
    return pd.DataFrame({
        "x": x[axis], "y": y[axis], "index": x["index"], "key": x["key"], "class_name": x["class_name"],
        "score_x": x["score"], "score_y": y["score"], "difference": (x["percentile"] - y["percentile"]).abs(),
    })  # fmt: skip


def _pictured(common: Common, drawn: NDArray[np.int64], points: pd.DataFrame) -> list[int]:
    """Numbers, in the first run, of the images whose thumbnails are sent: half of them the strangest, half any."""
    most = PICTURES if len(common.rankings[0]) <= 20_000 else PICTURES_OF_MANY
    if len(drawn) <= most:
        return points["index"].tolist()
    strangest_first = points["difference"].to_numpy().argsort(kind="stable")[::-1][: most // 2]
    others = np.random.default_rng(1).permutation(len(drawn))[: most // 2]
    return points["index"].iloc[list(dict.fromkeys([*strangest_first, *others]))].tolist()


def draw_selection(boxes: Sequence[Box], choice: Choice, common: Common) -> None:
    """Images in the boxes; nothing where there is none."""
    if not boxes:
        return
    images = selected(boxes, choice, common)
    with card("selected"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**:orange[Selected: {plural(len(images), 'image')}]**")
            st.button("Clear", key="clear_boxes", type="tertiary", icon=":material/close:", on_click=clear)
        shown = Row("", "", [_tiles(choice, common, images[:SELECTED])], choice.runs[0].name)
        gallery(
            [shown], key="selected", size=TILE_PX, name="Selected images", card=False, empty="No image lies here.",
            on_pick=pick,
        )  # fmt: skip
        more = f"The {SELECTED} on which they differ most. " if len(images) > SELECTED else ""
        st.caption(f"{more}{_badges(choice, common)}")


def selected(boxes: Sequence[Box], choice: Choice, common: Common) -> NDArray[np.int64]:
    """Positions of the images in some boxes, drawn or not, those that differ most first."""
    ranks = common.in_class if choice.in_class else common.in_run
    first, second = (held.percentiles() for held in ranks[:2])
    x, y = (first, second) if choice.percentiles else (common.scores(0), common.scores(1))
    inside = np.zeros(len(common), bool)
    for box in boxes:
        (left, right), (low, high) = sorted(box["x"]), sorted(box["y"])
        inside |= (x >= left) & (x <= right) & (y >= low) & (y <= high)
    images = np.flatnonzero(inside)
    return images[np.argsort(-np.abs(first - second)[images], kind="stable")]


def draw_disagreements(choice: Choice, common: Common) -> None:
    """The images that one encoder finds likely and the other strange, and the other way round."""
    first, second = (md(name) for name in choice.names[:2])
    ways = strangest(common, 0, 1, TILES, in_class=choice.in_class)
    tiles = _tiles(choice, common, np.concatenate(ways))
    parts = tiles.iloc[: len(ways[0])], tiles.iloc[len(ways[0]) :]
    for part, likely, strange, key in zip(parts, (first, second), (second, first), ("likely", "strange"), strict=True):
        st.markdown(f"**Likely under {likely}, strange under {strange}**")
        gallery(
            [Row("", "", [part], choice.runs[0].name)], size=TILE_PX, key=f"disagree_{key}",
            name=f"Images that {choice.names[0 if key == 'likely' else 1]} finds likelier", card=False,
            empty="No such image.", on_pick=pick,
        )  # fmt: skip
    st.caption(f"Largest differences of the percentiles. {_badges(choice, common)}")


def _tiles(choice: Choice, common: Common, images: NDArray[np.int64]) -> pd.DataFrame:
    """Images as the gallery takes them, with both percentiles as the badge."""
    frame, other = (common.rows(encoder, images, in_class=choice.in_class) for encoder in (0, 1))
    pairs = list(zip(frame["percentile"], other["percentile"], strict=True))
    return loaders.with_thumbnails(choice.runs[0], frame).assign(
        badge=[f"{x:.0f} · {y:.0f}" for x, y in pairs],
        note=[f"{ordinal(x)} under {choice.names[0]}, {ordinal(y)} under {choice.names[1]}" for x, y in pairs],
    )


def _badges(choice: Choice, common: Common) -> str:
    """What the figures on the tiles are."""
    of = "its class" if choice.in_class and common.has_classes else "all images"
    return (
        f"On each image: its percentile among {of} under {md(choice.names[0])} · under {md(choice.names[1])}. "
        "Click an image to inspect it."
    )
