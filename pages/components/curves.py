"""Which curves the distributions page draws: one for each run or class, with the images behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from jepascore_core.curves import MOST_DOTS, Curve, evenly, fair_shares, finite
from jepascore_core.distribution_plots import SHAPES
from jepascore_core.naming import distinct_names, input_side, is_imported
from jepascore_core.plots import DATASET_COLOURS
from jepascore_core.store import Ranking, Run, ScoreRule
from pages.components import loaders, pickers
from pages.components.text import listed, md

FIRST_CLASSES = 8  # of each run, the largest
MOST_CURVES = 40  # drawn at once; more than anyone tells apart


@dataclass(frozen=True)
class Shape:
    """How the curves are drawn.

    Attributes:
        name: Key of ``SHAPES``.
        per_class: One curve for each class instead of each run.
    """

    name: str
    per_class: bool


@dataclass(frozen=True, eq=False)
class Drawn:
    """A curve on the page, and the images behind it.

    Attributes:
        curve: What is drawn.
        run: Whose images.
        held: The run's ranking.
        places: Place of each of the curve's scores in it, ascending, (N,).
        class_name: The class, or None for a whole run.
        identity: The same for the same scores under the same name and colour.
    """

    curve: Curve
    run: Run
    held: Ranking
    places: NDArray[np.int64]
    class_name: str | None
    identity: tuple[object, ...]


def pick_shape() -> Shape:
    """Choose the kind of curve; kept in the URL as ``as`` and ``by``."""
    shown = pickers.current_one("as", list(SHAPES), "Density")
    with pickers.chip("As", shown if shown == "ECDF" else shown.lower()):
        name = st.segmented_control(
            "Show as", list(SHAPES), default="Density", key="as", bind="query-params", required=True,
            help="A density is smoothed, a histogram counted; ridgelines are densities one above another; the ECDF is "
            "the share of images below each score, with nothing smoothed.",
        )  # fmt: skip
    with pickers.chip("A curve for each", pickers.current_one("by", ["Run", "Class"], "Run").lower()):
        by = st.segmented_control(
            "A curve for each", ["Run", "Class"], default="Run", key="by", bind="query-params", required=True,
            help="Classes are coloured anew; runs keep their dataset's colour on every page.",
        )  # fmt: skip
    return Shape(name if name in SHAPES else "Density", by == "Class")


def pick_classes(runs: Sequence[Run], rule: ScoreRule) -> list[str]:
    """Choose the classes that get a curve, the largest to begin with; kept in the URL as ``classes``."""
    known = pickers.classes_of(runs, rule)
    start = _largest(runs, rule)
    shown = pickers.current("classes", known, start)
    with pickers.chip("Classes", f"{len(shown)} of {len(known)}" if shown else "all images"):
        st.caption(f"The {FIRST_CLASSES} largest of each run to begin with; without a choice, a curve for each run.")
        return st.multiselect(
            "Classes", known, default=start, key="classes", bind="query-params", placeholder="All images",
            disabled=not known, width=420,
        )  # fmt: skip


def drawn_curves(
    runs: Sequence[Run], rule: ScoreRule, classes: Sequence[str] = (), *, dots: int = MOST_DOTS
) -> list[Drawn]:
    """One curve for each run, or for each of its classes.

    Args:
        runs: Runs to draw; those without a score have no curve.
        rule: Convention of the score.
        classes: Classes to draw, in this order; none draws whole runs. A run of one class is drawn whole.
        dots: Images that may be dots, over all curves.

    Returns:
        At most ``MOST_CURVES``, run after run.
    """
    scales, colours, titles = encoder_panels(runs), pickers.colours(runs), curve_names(runs)
    names: dict[str, str] = {}  # distinct under one encoder, which its panel names
    for scale in scales.values():
        names |= distinct_names([run for run in runs if scales[run.name] == scale])
    found: list[Drawn] = []
    for run in runs:
        held, name, scale = loaders.ranking(run, rule), names[run.name], scales[run.name]
        stamp = (run.name, loaders.version(run), rule)
        whole = _drawn(run, held, stamp, Curve(scale, scale, name, colours[run.name], run.name), None)
        parts = [
            _drawn(run, held, stamp, Curve(titles[run.name], scale, wanted, _colour(number), run.name), wanted)
            for number, wanted in enumerate(classes)
        ]
        found += parts if len(held.class_names) > 1 and parts else [whole]
    found = [item for item in found if len(item.places)][:MOST_CURVES]
    shares = fair_shares([len(item.places) for item in found], dots) if dots else [0] * len(found)
    return [_with_dots(item, share) for item, share in zip(found, shares, strict=True)]


def tell_left_out(runs: Sequence[Run], drawn: Sequence[Drawn], classes: Sequence[str]) -> None:
    """Say which of the chosen runs and classes have no curve."""
    names = curve_names(runs)
    held = {item.run.name for item in drawn}
    none = [md(names[run.name]) for run in runs if run.name not in held]
    if len(drawn) >= MOST_CURVES:
        st.caption(f":material/info: At most {MOST_CURVES} curves are drawn at once; choose fewer to see others.")
    elif none:
        what = "of these classes" if classes else "with such a score"
        st.caption(f":material/info: {listed(none)} {'has' if len(none) == 1 else 'have'} no image {what}.")


def encoder_panels(runs: Sequence[Run]) -> dict[str, str]:
    """Title of each run's encoder, by run: one title where the same weights, at the same size, scored them."""
    weights = {run.name: (_encoder_title(run), str(run.meta["encoder"]["digest"])) for run in runs}
    titles = [title for title, _ in dict.fromkeys(weights.values())]
    return {
        name: title if titles.count(title) == 1 else f"{title}, weights {digest[:8]}"
        for name, (title, digest) in weights.items()
    }


def curve_names(runs: Sequence[Run]) -> dict[str, str]:
    """Short distinct names of some runs: the dataset, and more where that is not enough."""
    names = [pickers.dataset_name(run) for run in runs]
    labels = {run.name: label for label, run in pickers.by_label(runs).items()}
    return {
        run.name: name if names.count(name) == 1 else labels[run.name] for run, name in zip(runs, names, strict=True)
    }


def _encoder_title(run: Run) -> str:
    """Name and input size of a run's encoder."""
    side = "" if is_imported(run) and not run.meta["encoder"].get("input_size") else f", {input_side(run)}"
    return f"{pickers.encoder_name(run)}{side}"


def _largest(runs: Sequence[Run], rule: ScoreRule) -> list[str]:
    """The largest classes of each run."""
    names: dict[str, None] = {}
    for run in runs:
        table = loaders.ranking(run, rule).classes()
        table = table[table["class_name"] != ""].sort_values("n", ascending=False, kind="stable")
        names |= dict.fromkeys(table["class_name"][:FIRST_CLASSES])
    return list(names)[:MOST_CURVES]


def _colour(number: int) -> str:
    """Colour of a class by its place among the chosen ones."""
    return DATASET_COLOURS[number % len(DATASET_COLOURS)]


def _drawn(run: Run, held: Ranking, stamp: tuple[object, ...], empty: Curve, class_name: str | None) -> Drawn:
    """A curve with its scores, without dots."""
    places = held.places(() if class_name is None else [class_name])
    scores = held.scores if class_name is None else held.scores[places]
    kept = finite(scores)
    identity = (*stamp, empty.panel, empty.name, empty.colour, class_name)
    return Drawn(replace(empty, scores=scores[kept]), run, held, places[kept], class_name, identity)


def _with_dots(item: Drawn, most: int) -> Drawn:
    """The same curve with some of its images as dots."""
    ranks = evenly(len(item.places), most)
    keys = item.held.keys_at(item.places[ranks])
    return replace(item, curve=replace(item.curve, ranks=ranks, keys=keys))
