"""Rows of the class extremes page: which classes, how many images, and what each row says."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import streamlit as st

from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, pickers
from pages.components.gallery import Row
from pages.components.grid import Listing
from pages.components.text import count, number, plural

FIRST_ROWS = 6
ROWS = 16  # a page of them: about 2 MB of pictures at most
VIEWS = ("Extremes", "In order")
ORDERS = ("Least likely first", "Most likely first", "Random")


@dataclass(frozen=True)
class Layout:
    """How much to show.

    Attributes:
        n: Images at each end.
        columns: Tones of the groups, in order.
    """

    n: int
    columns: tuple[str, ...]


def pick_view() -> str:
    """Rows of extremes, or all images in order; kept in the URL as ``view``."""
    view = st.segmented_control(
        "View", VIEWS, default=VIEWS[0], key="view", bind="query-params", required=True, label_visibility="collapsed"
    )
    return str(view) if view in VIEWS else VIEWS[0]


def pick_classes(runs: Sequence[Run], *, few: bool = True) -> list[str]:
    """Choose classes of some runs; none means all images. Kept in the URL as ``classes``, or ``only``.

    Args:
        runs: The runs.
        few: For rows: begin with a few classes instead of none.
    """
    known, key = pickers.classes_of(runs), "classes" if few else "only"
    start = _first_classes(runs) if few else []
    shown = pickers.current(key, known, start)
    with pickers.chip("Classes", f"{len(shown)} of {count(len(known))}" if shown else "all images"):
        if few:
            st.caption("One row for each class; without a choice, one row holds all images of a run.")
        return st.multiselect(
            "Classes", known, default=start, key=key, bind="query-params", placeholder="All images",
            disabled=not known, width=420,
        )  # fmt: skip


def _first_classes(runs: Sequence[Run]) -> list[str]:
    """A few classes of every run to begin with, taken in turn."""
    turns = zip_longest(*(pickers.classes_of([run]) for run in runs))
    return list(dict.fromkeys(name for turn in turns for name in turn if name))[:FIRST_ROWS]


def pick_layout() -> Layout:
    """Choose how many images, and a random group; kept in the URL."""
    shown = pickers.current_number("n", 3, 12, 7)
    with pickers.chip("Show", f"{shown} least, {shown} most"):
        n = st.slider(
            "Images at each end", 3, 12, 7, key="n", bind="query-params", width=260,
            help="How many of the least and of the most likely images a row holds; the paper shows five.",
        )  # fmt: skip
        chance = st.toggle(
            "Random images too, as in Figure 4", key="random", bind="query-params",
            help="Drawn by chance from all of the row's images: what the extremes differ from.",
        )  # fmt: skip
    return Layout(n, ("least", "random", "most") if chance else ("least", "most"))


def pick_order() -> str:
    """Choose the order of all images; kept in the URL as ``order``."""
    with pickers.chip("Order", pickers.current_one("order", ORDERS, ORDERS[0]).lower()):
        order = st.radio(
            "Order",
            ORDERS,
            key="order",
            bind="query-params",
            help="Ranks count from the least likely image in any order.",
        )
    return str(order)


def pick_tag(run: Run) -> str | None:
    """Choose a tag of a run, whose images alone are shown; kept in the URL as ``tag``."""
    known = [tag.name for tag in loaders.tags(run)]
    if not known:
        return None
    shown = pickers.current("tag", known, [])
    with pickers.chip("Tag", shown[0] if shown else "any"):
        return st.selectbox(
            "Tag", known, index=None, key="tag", bind="query-params", placeholder="Any", width=260,
            help="Select images and use Tag at the foot of the page to make one.",
        )  # fmt: skip


def wanted_rows(runs: Sequence[Run], classes: Sequence[str], rule: ScoreRule) -> list[tuple[Run, str | None]]:
    """One row for each chosen class and run, or one for each run when no class is chosen."""
    return [
        (run, name)
        for name in (classes or (None,))
        for run in runs
        if name is None or len(loaders.ranking(run, rule).places([name]))
    ]


def page_of(wanted: Sequence[tuple[Run, str | None]]) -> Sequence[tuple[Run, str | None]]:
    """The rows of the page that the reader turned to; ``turn_pages`` turns it."""
    page = pickers.current_number("rows", 1, max(1, -(-len(wanted) // ROWS)), 1)
    return wanted[(page - 1) * ROWS : page * ROWS]


def turn_pages(wanted: Sequence[tuple[Run, str | None]]) -> None:
    """Where there are more rows than one page holds: turn to others; kept in the URL as ``rows``."""
    pages = -(-len(wanted) // ROWS)
    if pages > 1:
        st.pagination(pages, key="rows", bind="query-params")
        st.caption(f"{count(len(wanted))} rows, {ROWS} on a page.")


def draw_rows(wanted: Sequence[tuple[Run, str | None]], layout: Layout, rule: ScoreRule) -> list[Row]:
    """The rows as the gallery draws them."""
    several = len({str(run.meta["encoder"]["digest"]) for run, _ in wanted}) > 1
    return [_row(run, name, layout, rule, several=several) for run, name in wanted]


def listing(run: Run, classes: Sequence[str], tag: str | None, order: str, rule: ScoreRule) -> Listing:
    """All images of a run, or of some of its classes or one of its tags, in an order."""
    held = loaders.ranking(run, rule)
    places = held.places(classes)
    if tag is not None:
        keys = next((known.keys for known in loaders.tags(run) if known.name == tag), ())
        places = np.intersect1d(places, held.places_of(keys), assume_unique=True)
    if order == ORDERS[1]:
        places = places[::-1]
    elif order == ORDERS[2]:
        places = held.shuffled(places)
    name = "\n".join([order, pickers.rule_key(rule), tag or "", *classes])
    within = classes[0] if len(classes) == 1 else None
    return Listing(run, held, places, name, class_name=within, descending=order == ORDERS[1])


def _row(run: Run, class_name: str | None, layout: Layout, rule: ScoreRule, *, several: bool) -> Row:
    groups = [loaders.extremes(run, layout.n, tone, rule, class_name) for tone in layout.columns]
    held = loaders.ranking(run, rule)
    scores = held.scores if class_name is None else held.class_scores(class_name)
    who = [pickers.encoder_name(run)] if several else []
    where = [] if class_name is None else [pickers.dataset_name(run)]
    middle = float(scores[[(len(scores) - 1) // 2, len(scores) // 2]].mean()) if len(scores) else None
    note = f"{', '.join([*who, *where, plural(len(scores), 'image')])}\nmedian {number(middle, 1)}"
    return Row(class_name or pickers.dataset_name(run), note, groups, run.name)
