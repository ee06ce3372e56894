"""Parts of the distributions page: the curves, what was brushed, and how far the datasets lie apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from jepascore_core import plots
from jepascore_core.separation import separation
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, pickers
from pages.components.captions import brushable, caption
from pages.components.gallery import Row, gallery
from pages.components.inspector import pick
from pages.components.text import EMPTY, column, count, dot, listed, md, number, plural

SHAPES = {"Density": plots.density_plot, "Histogram": plots.histogram_plot, "ECDF": plots.ecdf_plot}
MOST_CURVES = 8  # of one run when split by class
BRUSHED = 24  # images shown for a brush


@dataclass(frozen=True)
class Shape:
    """How the curves are drawn.

    Attributes:
        name: Key of ``SHAPES``.
        per_class: One curve for each class instead of each run.
    """

    name: str
    per_class: bool


def pick_shape() -> Shape:
    """Choose the kind of curve; kept in the URL as ``as`` and ``by``."""
    with pickers.chip("As", pickers.current_one("as", list(SHAPES), "Density").lower().replace("ecdf", "ECDF")):
        name = st.segmented_control(
            "Show as", list(SHAPES), default="Density", key="as", bind="query-params", required=True
        )
    with pickers.chip("A curve for each", pickers.current_one("by", ["Run", "Class"], "Run").lower()):
        by = st.segmented_control(
            "A curve for each", ["Run", "Class"], default="Run", key="by", bind="query-params", required=True
        )
    return Shape(name if name in SHAPES else "Density", by == "Class")


def warn_about_encoders(runs: Sequence[Run]) -> None:
    """Say that scores of different encoders share no scale."""
    if len({_panel(run) for run in runs}) > 1:
        st.caption(
            ":material/info: These runs come from different encoders. Each has its own panel and its own axis: "
            "the scores share no scale, only the order within a panel means something."
        )


def curves(runs: Sequence[Run], rule: ScoreRule, *, per_class: bool) -> tuple[pd.DataFrame, dict[str, str]]:
    """Scores of some runs as the plots want them, and the colour of each curve.

    Args:
        runs: Runs to draw.
        rule: Convention of the score.
        per_class: Split each run by class, the largest classes first.

    Returns:
        Columns ``panel``, ``scale``, ``curve``, ``run``, ``key``, ``score``; and hex colours by curve.
    """
    frames: list[pd.DataFrame] = []
    colours: dict[str, str] = {}
    run_colours = pickers.colours(runs)
    names = _curve_names(runs)
    for run in runs:
        frame = loaders.scores(run, rule)
        frame = frame.assign(panel=_panel(run), scale=_panel(run), run=run.name, curve=names[run.name])
        if per_class and frame["class_name"].nunique() > 1:
            largest = frame["class_name"].value_counts().index[:MOST_CURVES]
            frame = frame[frame["class_name"].isin(largest)].sort_values("class_name", kind="stable")
            frame = frame.assign(curve=frame["class_name"], panel=names[run.name])
            colours |= dict(zip(frame["curve"].unique(), plots.DATASET_COLOURS, strict=False))
        else:
            colours[names[run.name]] = run_colours[run.name]
        frames.append(frame)
    return pd.concat(frames)[["panel", "scale", "curve", "run", "key", "score"]], colours


def draw_curves(
    frame: pd.DataFrame, colours: Mapping[str, str], shape: Shape, runs: Sequence[Run], rule: ScoreRule
) -> dict:
    """Draw the curves and return what was clicked or brushed."""
    figure = SHAPES[shape.name](frame, colours)
    title = pickers.score_title(rule)
    if title not in plots.SCORE_AXIS:
        figure.update_xaxes(title_text=plots.SCORE_AXIS.replace("JEPA-SCORE", title), row=frame["panel"].nunique())
    medians = ", ".join(f"{name} median {number(part['score'].median(), 1)}" for name, part in frame.groupby("curve"))
    selection = brushable(figure, key="curves", alt=f"{shape.name} of the {title}: {medians} nats")
    more = "Each dot is an image; click one, or drag across the axis, to see images."
    if shape.per_class and any(len(pickers.classes_of([run])) > MOST_CURVES for run in runs):
        more = f"Of each run, the {MOST_CURVES} largest classes. {more}"
    caption(runs, [pickers.scored(run) for run in runs], rule, more)
    return selection


def draw_selection(selection: Mapping, runs: Sequence[Run], rule: ScoreRule) -> None:
    """Images of the brushed range or the clicked dots; before any, the lowest scores of all."""
    boxes, points = selection.get("box") or [], selection.get("points") or []
    chosen = [tuple(point["customdata"][:2]) for point in points if point.get("customdata")]
    if boxes:
        low, high = sorted(float(x) for x in boxes[0]["x"])
        _draw_range("Brushed", low, high, runs, rule)
    elif chosen:
        run_name, key = map(str, chosen[0])
        st.markdown("**Nearest in score to the clicked image**")
        rows = [Row("", "", [_around(run, key, rule)], run.name) for run in runs if run.name == run_name]
        gallery(rows, key="clicked", name="Neighbours in score", card=False, selected=(run_name, key), on_pick=pick)
    else:
        together = pd.concat([_scores(run, rule) for run in runs])
        _draw_range("Lowest 5 %", float(together.min()), float(together.quantile(0.05)), runs, rule)
        st.caption("Drag across the chart to see another range, or click a dot.")


def _draw_range(title: str, low: float, high: float, runs: Sequence[Run], rule: ScoreRule) -> None:
    """Images of every run between two scores."""
    inside = {run.name: int(_scores(run, rule).between(low, high).sum()) for run in runs}
    total = plural(sum(inside.values()), "image")
    st.markdown(f"**:orange[{title}: {number(low, 1)} to {number(high, 1)} nats, {total}]**")
    touched = [run for run in runs if inside[run.name]]
    share = max(6, BRUSHED // max(1, len(touched)))
    names = _curve_names(runs)
    rows = [
        Row(names[run.name], plural(inside[run.name], "image"), [_between(run, share, rule, low, high)], run.name)
        for run in touched
    ]
    empty = "No image lies in this range."
    gallery(rows, key="brushed", name="Images in the range", empty=empty, card=False, on_pick=pick)


def draw_separation(runs: Sequence[Run], rule: ScoreRule) -> None:
    """For each encoder, how far every dataset lies from a reference, and what brightness alone would do."""
    panels = list(dict.fromkeys(_panel(run) for run in runs))
    for panel in panels:
        mine = [run for run in runs if _panel(run) == panel]
        names = _curve_names(mine)
        comparable = len(mine) > 1 and rule.convention != "corrected"  # whose scores have a Gaussian for each run
        title = "Separation" if len(panels) == 1 else f"Separation, {md(panel)}"
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown(f"**{title}**")
            reference = mine[0]
            if comparable:
                label = st.selectbox(
                    "Reference", [names[run.name] for run in mine], key=f"reference_{panels.index(panel)}",
                    label_visibility="collapsed", width=180, format_func=lambda name: f"against {name}",
                )  # fmt: skip
                reference = next((run for run in mine if names[run.name] == label), mine[0])
        facts = pd.DataFrame([_facts(names[run.name], run, reference, rule) for run in mine])
        if not comparable:
            facts = facts[["dataset", "images", "median", "5–95 %"]]
        facts = facts.apply(lambda cells: cells if cells.name == "dataset" else column(cells))
        st.table(facts, border="horizontal", hide_index=True, alt="Separation of the datasets' scores")
        if comparable:
            st.caption(_verdict(mine, names, reference, rule))
        elif len(mine) > 1:
            st.caption("Corrected scores of two runs rest on two Gaussians, so that no AUROC is given.")


def directions(runs: Sequence[Run]) -> str:
    """How the datasets of one encoder lie against the first, as measured; empty for one dataset."""
    runs, rule, told = [run for run in runs if pickers.scored(run) > 1], ScoreRule(), []
    if len(runs) < 2:
        return ""
    reference, *others = runs
    names, ways = _curve_names(runs), {"lower": "lower", "higher": "higher", "not separated": "not told apart"}
    for run in others:
        found = separation(_scores(reference, rule), _scores(run, rule))
        interval = f"{number(found.auroc, 2)}, {number(found.low, 2)}–{number(found.high, 2)}"
        told.append(f"{md(names[run.name])} {ways[found.direction]} ({interval})")
    return f"Measured against {md(names[reference.name])}, AUROC with 95 % interval: {'; '.join(told)}."


def _facts(name: str, run: Run, reference: Run, rule: ScoreRule) -> dict[str, str]:
    """One line of the separation table."""
    scores = loaders.scores(run, rule)["score"]
    low, middle, high = scores.quantile([0.05, 0.5, 0.95])
    facts = {
        "dataset": f"{dot(pickers.colours([run])[run.name])}\u00a0{md(name)}",
        "images": count(len(scores)),
        "median": number(middle, 1),
        "5–95 %": f"{number(low, 1)} … {number(high, 1)}",
    }
    if run.name == reference.name or min(len(scores), len(_scores(reference, rule))) < 2:
        return facts | dict.fromkeys(("AUROC (95 %)", "KS", "brightness"), EMPTY)
    found = separation(_scores(reference, rule), scores)
    rival = _brightness_auroc(reference, run)
    return facts | {
        "AUROC (95 %)": f"{number(found.auroc, 2)} ({number(found.low, 2)}–{number(found.high, 2)})",
        "KS": number(found.ks, 2),
        "brightness": number(rival, 2),
    }


def _verdict(runs: Sequence[Run], names: Mapping[str, str], reference: Run, rule: ScoreRule) -> str:
    """The measured direction in words."""
    found: dict[str, list[str]] = {"lower": [], "higher": [], "not separated": []}
    for run in runs:
        if run.name != reference.name and min(len(_scores(run, rule)), len(_scores(reference, rule))) > 1:
            direction = separation(_scores(reference, rule), _scores(run, rule)).direction
            found[direction].append(md(names[run.name]))
    base = md(names[reference.name])
    words = [f"{listed(sets)} score {way} than {base}" for way, sets in found.items() if sets and way[0] in "lh"]
    if found["not separated"]:
        words.append(f"{listed(found['not separated'])} cannot be told from {base}")
    return (
        f"Measured, not assumed: {'; '.join(words)}. AUROC is the chance that an image of {base} scores above one of "
        "the row's; *brightness* is the same with each thumbnail's mean brightness in place of the score, "
        "whichever way round separates better."
    )


def _brightness_auroc(reference: Run, other: Run) -> float:
    """AUROC of mean brightness, direction-free: at least 0.5."""
    a, b = loaders.brightness(reference), loaders.brightness(other)
    if min(len(a), len(b)) < 2:
        return float("nan")
    auroc = separation(a, b).auroc
    return max(auroc, 1 - auroc)


def _between(run: Run, n: int, rule: ScoreRule, low: float, high: float) -> pd.DataFrame:
    return loaders.extremes(run, n, "between", rule, low=low, high=high)


def _around(run: Run, key: str, rule: ScoreRule, n: int = 12) -> pd.DataFrame:
    """The clicked image and its neighbours in score."""
    frame = loaders.scores(run, rule).sort_values(["score", "key"], ignore_index=True)
    found = frame.index[frame["key"] == key]
    if not len(found):
        return frame.head(0)
    start = max(0, min(int(found[0]) - n // 2, len(frame) - n))
    near = frame["score"].iloc[[start, min(start + n, len(frame)) - 1]]
    return loaders.extremes(run, n, "between", rule, low=float(near.iloc[0]), high=float(near.iloc[1]))


def _scores(run: Run, rule: ScoreRule) -> pd.Series:
    return loaders.scores(run, rule)["score"]


def _panel(run: Run) -> str:
    """Runs share a panel when the same weights, at the same size, scored them."""
    meta = run.meta["encoder"]
    size = meta.get("input_size")
    side = f", {size[-1]} px" if isinstance(size, list | tuple) else ""
    return f"{pickers.encoder_name(run)}{side}"


def _curve_names(runs: Sequence[Run]) -> dict[str, str]:
    """Short distinct names of some runs: the dataset, and more where that is not enough."""
    names = [pickers.dataset_name(run) for run in runs]
    labels = {run.name: label for label, run in pickers.by_label(runs).items()}
    return {
        run.name: name if names.count(name) == 1 else labels[run.name] for run, name in zip(runs, names, strict=True)
    }
