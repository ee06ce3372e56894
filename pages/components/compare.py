"""How far encoders agree: the table of all pairs, the table of classes, and what either means."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st

from jepascore_core.agreement import Estimate
from jepascore_core.compare_plots import correlation_matrix
from jepascore_core.comparison import Pair, class_table
from jepascore_core.store import Common
from pages.components import loaders, pickers
from pages.components.captions import chart
from pages.components.compare_choice import Choice, pairs, told_caption
from pages.components.text import EMPTY, column, count, listed, md, number, significant

_WEAK = 0.3  # a correlation below this is called weak
_TABLE_MOST = 20  # classes; more are a table that scrolls and sorts


def draw_agreement(choice: Choice, common: Common) -> None:
    """What the first two encoders share, in words; and all pairs in a table, more than one as a matrix too."""
    found = {(i, j): loaders.correlations(choice.runs, common, choice.rule, i, j) for i, j in pairs(choice.runs)}
    st.markdown(verdict(choice, common, found[0, 1]))
    several = common.has_classes
    facts = []
    for (i, j), pair in found.items():
        ends = loaders.shared(choice.runs, common, choice.rule, i, j, choice.n)
        total = float(ends.n.sum())
        facts.append({
            "encoders": f"{md(choice.names[i])} × {md(choice.names[j])}",
            "Spearman (95 %)": told(pair.spearman),
            **({"within classes": told(pair.spearman_in_class)} if several else {}),
            "Kendall τ (95 %)": told(pair.kendall),
            "least shared": _of(float(ends.least.sum()), total),
            "most shared": _of(float(ends.most.sum()), total),
            "by chance": number(float(ends.chance.sum()), 1),
            "beyond chance": told(ends.excess()),
        })
    _table(pd.DataFrame(facts), "Agreement of every two encoders")
    if len(choice.runs) > 2:
        left, right = st.columns([7, 5], gap="medium")
        with left:
            _matrix(choice, found, "spearman_in_class" if several else "spearman")
        with right:
            st.caption(_meaning(choice))
    else:
        st.caption(_meaning(choice))
    sampled = found[0, 1].kendall.n
    note = f"Kendall’s τ from a random {count(sampled)} of the images." if sampled < len(common) else ""
    told_caption(choice, common, note)


def _matrix(choice: Choice, found: Mapping[tuple[int, int], Pair], measure: str) -> None:
    """The correlations as a picture."""
    cells = [(i, j, getattr(pair, measure)) for (i, j), pair in found.items()]
    words = "; ".join(f"{choice.names[i]} and {choice.names[j]} {number(cell.value)}" for i, j, cell in cells)
    chart(correlation_matrix(choice.names, cells), key="matrix", alt=f"Spearman correlations: {words}")
    st.caption(
        f"Spearman’s correlation{' within classes' if measure.endswith('class') else ''}, 95 % interval beneath."
    )


def verdict(choice: Choice, common: Common, pair: Pair) -> str:
    """What the first two encoders agree on, in a few sentences of Markdown."""
    first, second = (md(name) for name in choice.names[:2])
    rho, within = pair.spearman_in_class, " within classes" if common.has_classes else ""
    way = _way(rho, "agree", "oppose each other", "cannot be told from unrelated ones")
    way = f"weakly {way}" if abs(rho.value) < _WEAK and "cannot" not in way else way
    words = [f"The orders of **{first}** and **{second}**{within} {way}: Spearman {told(rho)}."]
    ends = loaders.shared(choice.runs, common, choice.rule, 0, 1, choice.n)
    classes = int((ends.n > 0).sum())
    if not classes:
        return f"{words[0]} No class has two images in common, so that there are no extremes to compare."
    least, most, chance = (_mean(float(values.sum()) / classes) for values in (ends.least, ends.most, ends.chance))
    each, mean = ("of each class", " on average") if classes > 1 else ("of all", "")
    each += " (at most half)" if int(ends.n.min()) < choice.n else ""
    way = _way(ends.excess(), "more than chance", "less than chance", "not told apart from chance")
    words.append(
        f"Of the {choice.n} least likely images {each} they share {least}{mean}, of the {choice.n} most likely {most}; "
        f"unrelated rankings would share {chance}: **{way}**."
    )
    return " ".join(words)


def _way(estimate: Estimate, above: str, below: str, neither: str) -> str:
    """Which side of zero an interval lies on, in words."""
    return above if estimate.low > 0 else below if estimate.high < 0 else neither


def _meaning(choice: Choice) -> str:
    """What agreement means and what it does not."""
    sentences = [
        "The paper reports that the same samples are found at the extremes under every encoder (Figure 1: five of "
        "1,000 images of a class). *Beyond chance* is 0 for unrelated rankings and 1 for the same images, over both "
        "ends of all classes.",
        "Little or opposed agreement does not say which encoder is wrong, and much is no proof of a density: encoders "
        "agree as well where both follow contrast, blur or background.",
    ]
    controls = [name for run, name in zip(choice.runs, choice.names, strict=True) if pickers.is_control(run)]
    if controls:
        them = listed([md(name) for name in controls])
        sentences.append(
            f"Never trained: {them}. What another encoder shares with a control comes from images and architecture, "
            "not from learning."
        )
    else:
        sentences.append(
            "No untrained control is among them; *Random weights* on Score images, or `score --random-weights`, makes "
            "one."
        )
    return " ".join(sentences)


def draw_classes(choice: Choice, common: Common) -> None:
    """Correlation and shared extremes of the first two encoders in each class, beside chance."""
    asked = choice.runs, common, choice.rule, 0, 1
    table = class_table(common, loaders.correlations(*asked), loaders.shared(*asked, choice.n))
    first, second = (md(name) for name in choice.names[:2])
    st.markdown(f"**Shared extremes of each class, {first} × {second}**")
    if len(table) > _TABLE_MOST:
        _sortable(table)
    else:
        _table(_in_words(table), "Shared extremes of each class")
    st.caption(_tests(table))


def _in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The table of classes as text."""
    records = table.to_dict("records")
    return pd.DataFrame([
        {
            "class": md(row["class_name"] or "all images"),
            "images": count(row["images"]),
            "Spearman (95 %)": told(
                Estimate(row["spearman"], row["spearman_low"], row["spearman_high"], row["images"], "")
            ),
            "least shared": _of(row["least"], row["n"]),
            "most shared": _of(row["most"], row["n"]),
            "by chance": number(row["chance"], 2),
            "p, least": _p(row["p_least"]),
            "p, most": _p(row["p_most"]),
        }
        for row in records
    ])


def _sortable(table: pd.DataFrame) -> None:
    """The table of many classes, which a click on a column's head sorts."""
    names = {
        "class_name": ("class", None, None),
        "images": ("images", "localized", None),
        "spearman": ("Spearman", "%.2f", "Rank correlation of the two encoders within the class"),
        "spearman_low": ("from", "%.2f", "Lower end of its 95 % interval"),
        "spearman_high": ("to", "%.2f", "Upper end of its 95 % interval"),
        "n": ("at each end", "localized", "Images looked at, at most half of the class"),
        "least": ("least shared", "%.4g", "Of the least likely; a fraction where equal scores leave open which"),
        "most": ("most shared", "%.4g", "Of the most likely"),
        "chance": ("by chance", "%.3g", "Shared by unrelated rankings: n²/N"),
        "p_least": ("p, least", "%.3g", "Chance that unrelated rankings share at least so many of the least likely"),
        "p_most": ("p, most", "%.3g", "Chance that unrelated rankings share at least so many of the most likely"),
    }
    config = {
        name: st.column_config.NumberColumn(label, format=form, help=words) if form else label
        for name, (label, form, words) in names.items()
    }
    st.dataframe(
        table[list(names)], hide_index=True, column_config=config, height=420, alt="Shared extremes of each class"
    )


def _table(frame: pd.DataFrame, alt: str) -> None:
    """A small table of text, its figures in line."""
    st.table(
        frame.apply(lambda cells: cells if cells.name == frame.columns[0] else column(cells)),
        border="horizontal", hide_index=True, alt=alt,
    )  # fmt: skip


def _mean(value: float) -> str:
    """A mean count, with more digits where it is small."""
    return number(value, 1) if value == 0 or value >= 0.1 else significant(value, 2)


def _p(value: float) -> str:
    """A p-value; a dash where no image was looked at."""
    return EMPTY if np.isnan(value) else "< 0.001" if value < 0.001 else number(value, 3)


def _tests(table: pd.DataFrame) -> str:
    """How many classes share more than chance at 5 %, beside how many unrelated rankings would."""
    tested = table[table["n"] > 0]
    if tested.empty:
        return ""
    least, most = (int((tested[name] < 0.05).sum()) for name in ("p_least", "p_most"))
    return (
        f"p below 0.05 in {count(least)} (least likely) and {count(most)} (most likely) of "
        f"{'1 class' if len(tested) == 1 else f'{count(len(tested))} classes'}; unrelated rankings get there in at "
        f"most {significant(0.05 * len(tested), 2)}. p counts agreement beyond chance only: rankings that oppose each "
        "other have p near 1."
    )


def told(estimate: Estimate) -> str:
    """An estimate with its interval, as a cell shows it."""
    if np.isnan(estimate.value):
        return EMPTY
    digits = 3 if estimate.high - estimate.low < 0.02 else 2
    interval = "" if np.isnan(estimate.low) else f" ({_range(estimate.low, estimate.high, digits)})"
    return f"{number(estimate.value, digits)}{interval}"


def _range(low: float, high: float, digits: int = 2) -> str:
    """An interval; a dash where there is none."""
    return EMPTY if np.isnan(low) else f"{number(low, digits)} … {number(high, digits)}"


def _of(part: float, whole: float) -> str:
    return f"{number(part, 0 if part == round(part) else 1)} of {count(whole)}"
