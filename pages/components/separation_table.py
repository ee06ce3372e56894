"""How far curves lie apart: a table for each panel, with the direction that was measured."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from jepascore_core.curves import quantile
from jepascore_core.separation import Separation
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders
from pages.components.curves import Drawn, curve_names, drawn_curves
from pages.components.text import EMPTY, column, count, dot, listed, md, number, plural

_LISTED = 6  # names of one direction; more are counted


def draw_separation(drawn: Sequence[Drawn], rule: ScoreRule) -> None:
    """For each panel, how far every curve lies from a reference, and what brightness alone would do."""
    panels: dict[str, list[Drawn]] = {}
    for item in drawn:
        panels.setdefault(item.curve.panel, []).append(item)
    for number_, (title, mine) in enumerate(panels.items()):
        _draw_panel(f"Separation, {md(title)}" if len(panels) > 1 else "Separation", mine, rule, f"reference_{number_}")


def directions(runs: Sequence[Run]) -> str:
    """How the datasets of one encoder lie against the first, as measured; empty for one dataset."""
    drawn = [item for item in drawn_curves(runs, ScoreRule(), dots=0) if len(item.places) > 1]
    if len(drawn) < 2:
        return ""
    reference, *others = drawn
    names = curve_names([item.run for item in drawn])
    ways, told = {"lower": "lower", "higher": "higher", "not separated": "not told apart"}, []
    for item in others:
        found = _apart(reference, item)
        interval = f"{number(found.auroc, 2)}, {number(found.low, 2)}–{number(found.high, 2)}"
        told.append(f"{md(names[item.run.name])} {ways[found.direction]} ({interval})")
    return f"Measured against {md(names[reference.run.name])}, AUROC with 95 % interval: {'; '.join(told)}."


def _draw_panel(title: str, mine: Sequence[Drawn], rule: ScoreRule, key: str) -> None:
    """The table of one panel."""
    per_class = any(item.class_name is not None for item in mine)
    own = rule.convention == "corrected" and not per_class  # a Gaussian for each run, so no common scale
    comparable = len(mine) > 1 and not own
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{title}**")
        reference = mine[0]
        if comparable:
            names = {item.curve.name: item for item in mine}
            name = st.selectbox(
                "Reference", list(names), key=key, bind="query-params", label_visibility="collapsed", width=180,
                format_func=lambda name: f"against {name}",
            )  # fmt: skip
            reference = names.get(name, reference)
    # per class it would not be a fair rival, and what was imported has no thumbnails
    rival = not per_class and any(len(loaders.brightness(item.run)) for item in mine)
    lines = [_facts(item, reference, per_class=per_class, comparable=comparable, rival=rival) for item in mine]
    facts = pd.DataFrame(lines)
    facts = facts.apply(lambda cells: cells if cells.name in ("dataset", "class") else column(cells))
    st.table(facts, border="horizontal", hide_index=True, alt="Separation of the curves' scores")
    if comparable:
        st.caption(_verdict(mine, reference, rival=rival))
    elif len(mine) > 1:
        st.caption("Corrected scores of two runs rest on two Gaussians, so that no AUROC is given.")


def _facts(item: Drawn, reference: Drawn, *, per_class: bool, comparable: bool, rival: bool) -> dict[str, str]:
    """One line of a table."""
    scores = item.curve.scores
    facts = {
        "class" if per_class else "dataset": f"{dot(item.curve.colour)}\u00a0{md(item.curve.name)}",
        "images": count(len(scores)),
        "median": number(quantile(scores, 0.5), 1),
        "5–95 %": f"{number(quantile(scores, 0.05), 1)} … {number(quantile(scores, 0.95), 1)}",
    }
    if not comparable:
        return facts
    measured = {"AUROC (95 %)": EMPTY, "KS": EMPTY, **({"brightness": EMPTY} if rival else {})}
    if item is reference or min(len(scores), len(reference.places)) < 2:
        return facts | measured
    found = _apart(reference, item)
    measured |= {
        "AUROC (95 %)": f"{number(found.auroc, 2)} ({number(found.low, 2)}–{number(found.high, 2)})",
        "KS": number(found.ks, 2),
    }
    return facts | measured | ({"brightness": number(_brightness(reference, item), 2)} if rival else {})


def _verdict(mine: Sequence[Drawn], reference: Drawn, *, rival: bool) -> str:
    """The measured direction in words."""
    found: dict[str, list[str]] = {"lower": [], "higher": [], "not separated": []}
    for item in mine:
        if item is not reference and min(len(item.places), len(reference.places)) > 1:
            found[_apart(reference, item).direction].append(md(item.curve.name))
    base = md(reference.curve.name)
    words = [
        f"{_some(sets)} score{'s' * (len(sets) == 1)} {way} than {base}"
        for way, sets in found.items()
        if sets and way[0] in "lh"
    ]
    if found["not separated"]:
        words.append(f"{_some(found['not separated'])} cannot be told from {base}")
    if not words:
        return "One image is too few to measure a direction."
    beside = (
        ""
        if not rival
        else "; *brightness* is the same with each thumbnail's mean brightness in place of the score, "
        "whichever way round separates better"
    )
    return (
        f"Measured, not assumed: {'; '.join(words)}. AUROC is the chance that an image of {base} scores above one of "
        f"the row's{beside}."
    )


def _some(names: Sequence[str]) -> str:
    """Names in a sentence, not more than anyone reads."""
    more = len(names) - _LISTED
    return listed([*names[:_LISTED], plural(more, "other")] if more > 0 else list(names))


def _apart(reference: Drawn, item: Drawn) -> Separation:
    """How one curve lies against another, remembered."""
    return loaders.separation((reference.identity, item.identity), reference.curve.scores, item.curve.scores)


def _brightness(reference: Drawn, item: Drawn) -> float:
    """AUROC of mean brightness, direction-free: at least 0.5."""
    a, b = loaders.brightness(reference.run), loaders.brightness(item.run)
    if min(len(a), len(b)) < 2:
        return float("nan")
    auroc = loaders.separation((("brightness", len(a)), reference.identity, item.identity), a, b).auroc
    return max(auroc, 1 - auroc)
