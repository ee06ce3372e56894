"""Rows of the class extremes page: which classes, how many images, and what each row says."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import streamlit as st

from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, pickers
from pages.components.gallery import SIZES, Row
from pages.components.text import number, plural

FIRST_ROWS = 6
MOST_ROWS = 60  # rows drawn at once; more than anyone reads


@dataclass(frozen=True)
class Layout:
    """How much to show.

    Attributes:
        n: Images at each end.
        size: S, M or L.
        columns: Tones of the groups, in order.
    """

    n: int
    size: str
    columns: tuple[str, ...]


def pick_classes(runs: Sequence[Run]) -> list[str]:
    """Choose classes of some runs; none means one row for all images. Kept in the URL as ``classes``."""
    known = pickers.classes_of(runs)
    start = _first_classes(runs)
    shown = pickers.current("classes", known, start)
    with pickers.chip("Classes", f"{len(shown)} of {len(known)}" if shown else "all images"):
        st.caption("One row for each class; without a choice, one row holds all images of a run.")
        return st.multiselect(
            "Classes", known, default=start, key="classes", bind="query-params", placeholder="All images",
            disabled=not known, width=420,
        )  # fmt: skip


def _first_classes(runs: Sequence[Run]) -> list[str]:
    """A few classes of every run to begin with, taken in turn."""
    turns = zip_longest(*(pickers.classes_of([run]) for run in runs))
    return list(dict.fromkeys(name for turn in turns for name in turn if name))[:FIRST_ROWS]


def pick_layout() -> Layout:
    """Choose how many images, a random group, and the size of thumbnails; kept in the URL."""
    shown = pickers.current_number("n", 3, 12, 7)
    with pickers.chip("Show", f"{shown} least, {shown} most"):
        n = st.slider("Images at each end", 3, 12, 7, key="n", bind="query-params", width=260)
        chance = st.toggle("Random images too, as in Figure 4", key="random", bind="query-params")
    with pickers.chip("Size", pickers.current_one("size", list(SIZES), "M")):
        size = st.segmented_control(
            "Thumbnails", list(SIZES), default="M", key="size", bind="query-params", required=True
        )
    columns = ("least", "random", "most") if chance else ("least", "most")
    return Layout(n, size if size in SIZES else "M", columns)


def class_rows(runs: Sequence[Run], classes: Sequence[str], layout: Layout, rule: ScoreRule) -> list[Row]:
    """One row for each chosen class and run, or one for each run when no class is chosen."""
    if not classes:
        return [_row(run, None, layout, rule, several=_encoders(runs) > 1) for run in runs]
    held = {run.name: dict(_sizes(run)) for run in runs}
    rows = [
        _row(run, name, layout, rule, several=_encoders(runs) > 1)
        for name in classes
        for run in runs
        if held[run.name].get(name)
    ]
    if len(rows) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS} of {len(rows)} rows; choose fewer classes to see the others.")
    return rows[:MOST_ROWS]


def _row(run: Run, class_name: str | None, layout: Layout, rule: ScoreRule, *, several: bool) -> Row:
    groups = [loaders.extremes(run, layout.n, tone, rule, class_name) for tone in layout.columns]
    n = dict(_sizes(run)).get(class_name, 0) if class_name is not None else pickers.scored(run)
    scores = loaders.scores(run, rule, [class_name] if class_name is not None else ())
    who = [pickers.encoder_name(run)] if several else []
    where = [] if class_name is None else [pickers.dataset_name(run)]
    note = f"{', '.join([*who, *where, plural(n, 'image')])}\nmedian {number(scores['score'].median(), 1)}"
    return Row(class_name or pickers.dataset_name(run), note, groups, run.name)


def _encoders(runs: Sequence[Run]) -> int:
    """How many encoders made some runs."""
    return len({str(run.meta["encoder"]["digest"]) for run in runs})


def _sizes(run: Run) -> list[tuple[str, int]]:
    """Class names with their number of scored images."""
    counts = loaders.class_counts(run)
    return [(str(name), int(n)) for name, n in zip(counts["class_name"], counts["n"], strict=True)]
