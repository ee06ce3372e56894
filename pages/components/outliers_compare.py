"""Which method tells the images apart: chart, verdict, table and ROC curves."""

import re

import numpy as np
import pandas as pd
import streamlit as st

from jepascore_core.outlier_plots import Curve, Whisker, method_chart, roc_chart
from jepascore_core.outliers import JEPA_SCORE, Evaluation, Finding, Interval, Judged, Method, methods, roc
from jepascore_core.plots import MUTED
from jepascore_core.store import ScoreRule
from pages.components import loaders, pickers
from pages.components.captions import caption, chart
from pages.components.outliers_choice import Choice
from pages.components.prepared import Tell, Work, begin
from pages.components.text import EMPTY, column, count, listed, md, number, plural, public_md

_HARMLESS = re.compile(r"[\w ,.·…()-]+")
WAYS = {"holds": "lower\u00a0=\u00a0outlier", "inverted": "inverted", "undecided": "undecided"}
_MEANT = {
    "holds": "a lower score means outlier",
    "inverted": "**inverted**, a *higher* score means outlier",
    "undecided": "the direction is **undecided**",
}
_BY = "Whose values threshold, curves and images below are of."
_VERSUS = "Shown are the images on which the two methods differ most."


def evaluating(choice: Choice) -> Work | None:
    """Begin to judge by every method; None where that is done."""

    def evaluate(tell: Tell) -> None:
        def on_method(done: int, total: int, title: str) -> None:
            tell(done / total, f"Judging by {md(title)}, {done + 1} of {total}")

        loaders.outlier_evaluation(choice.runs, choice.drop_top, on_method)

    return begin(("outliers", choice.drop_top), choice.runs, evaluate, "Reading embeddings and spectra", patience=4)


def evaluated(choice: Choice) -> Evaluation:
    """What every method says."""
    return loaders.outlier_evaluation(choice.runs, choice.drop_top)


def titled(method: Method) -> str:
    """A method's name, with what it drops."""
    drop = "" if method.drop_top is None else f", top {number(method.drop_top, 0)} % dropped"
    return f"{method.title}{drop}"


def draw_methods(choice: Choice, found: Evaluation) -> None:
    """What was measured, in words, and the AUROC of every method."""
    for number_, run in enumerate(choice.others):
        if words := verdict(choice.name(run), found.of_out(number_)):
            st.markdown(words)
    panels = [
        (choice.name(run), choice.colours[run.name], [_whisker(one) for one in found.of_out(number_)])
        for number_, run in enumerate(choice.others)
    ]
    chart(method_chart(panels), key="methods", alt=_in_words(choice, found))
    judged = [len(rows) for rows in (found.inside, *found.others)]
    resamples = min((one.metrics.resamples for one in found.findings), default=0)
    caption(
        choice.runs, judged, ScoreRule(),
        f"AUROC: the chance that an image of {md(choice.name(choice.inside))} is judged more in-distribution than one "
        f"of the other run, with 95 % intervals ({count(resamples)} stratified bootstrap resamples; fitted models held "
        "fixed). Hollow: the interval holds ½. Dotted: JEPA-SCORE.",
    )  # fmt: skip
    said = max((one.rows for one in found.findings), key=len, default="")
    st.caption(md(said))
    tell_warnings(found)


def tell_warnings(found: Evaluation) -> None:
    """What a reader must know of rows and methods."""
    told = [public_md(words) for words in found.warnings]
    by_words: dict[str, list[str]] = {}
    for one in found.findings:
        for words in one.warnings:
            names = by_words.setdefault(words, [])
            if one.method.title not in names:
                names.append(one.method.title)
    told += [f"{md(listed(names))}: {public_md(words)}" for words, names in by_words.items()]
    told += [f"{md(title)} is left out: {public_md(why)}." for title, why in found.left_out.items()]
    if told:
        with st.expander(f":material/info: {plural(len(told), 'note')} on rows and methods"):
            st.markdown("\n".join(f"- {words}" for words in told))


def verdict(name: str, findings: list[Finding]) -> str:
    """What one set of other images shows, in two sentences of Markdown."""
    base = next((one for one in findings if one.method.name == JEPA_SCORE), None)
    rivals = [one for one in findings if not one.method.is_score]
    if base is None:
        return ""
    reached, meant = told(base.metrics.auroc), _MEANT[base.metrics.direction]
    words = f"Against **{md(name)}**, JEPA-SCORE reaches AUROC {reached}: {meant}."
    if not rivals:
        return words
    best = max(rivals, key=lambda one: one.metrics.auroc.value)
    apart = "not told apart from it" if not best.p < 0.05 else "better" if best.difference > 0 else "worse"
    ways = {
        "measurably better": sum(one.p < 0.05 and one.difference > 0 for one in rivals),
        "measurably worse": sum(one.p < 0.05 and one.difference < 0 for one in rivals),
        "inverted": sum(one.metrics.direction == "inverted" for one in rivals),
    }
    counted = ", ".join(f"{n or 'none'} {way}" for way, n in ways.items())
    return (
        f"{words} The best of {len(rivals)} rivals is {md(best.method.title)} with {told(best.metrics.auroc)}, {apart} "
        f"(p {_p(best.p)}); of all rivals {counted}."
    )


def draw_table(found: Evaluation, against: int) -> None:
    """Every method against one set, in figures."""
    findings = found.of_out(against)
    facts = pd.DataFrame([
        {
            "method": f"**{md(titled(one.method))}**" if one.method.name == JEPA_SCORE else md(titled(one.method)),
            "AUROC (95 %)": told(one.metrics.auroc),
            "AUPR (95 %)": told(one.metrics.aupr),
            "FPR at 95 % TPR": told(one.metrics.fpr95),
            "direction": WAYS[one.metrics.direction],
            "vs JEPA-SCORE": _against(one),
            "time": _seconds(one.fit_s + one.judge_s),
        }
        for one in findings
    ])
    if facts.empty:
        st.caption("No method is possible with these runs.")
        return
    st.table(
        facts.apply(lambda cells: cells if cells.name in ("method", "direction") else column(cells)),
        border="horizontal", hide_index=True, alt="Methods against one set of other images",
    )  # fmt: skip
    base = next((one.metrics for one in findings), None)
    share = f"{base.n_in / (base.n_in + base.n_out):.2f}" if base else EMPTY
    st.caption(
        "Higher values should mean in-distribution; *direction* says what was measured (*inverted*: higher values are "
        "the outliers). AUPR counts in-distribution "
        f"images as positive: chance gives {share}. *vs JEPA-SCORE*: difference of the AUROCs, DeLong’s paired "
        "test, Holm-corrected over the methods. *Time* to fit and to judge both runs, from stored rows."
    )
    with st.popover("What each method is", type="tertiary", icon=":material/info:"):
        st.markdown("\n".join(f"- **{md(one.method.title)}**: {_about(one)}" for one in findings))


def draw_roc(choice: Choice, found: Evaluation, by: Method) -> None:
    """ROC curves against each run: JEPA-SCORE, the chosen method and the best one by name."""
    panels, words = [], []
    for number_, run in enumerate(choice.others):
        if found.of_out(number_):
            curves = _curves(choice, found, number_, by)
            panels.append((choice.name(run), choice.colours[run.name], curves))
            words.append(f"against {choice.name(run)} {listed([curve.name for curve in curves if curve.strong])}")
    if not panels:
        return
    st.markdown("**ROC curves**")
    chosen = "JEPA-SCORE " if by.name == JEPA_SCORE else f"JEPA-SCORE, {md(by.title)} "
    chart(roc_chart(panels), key="roc", alt=f"ROC curves by name: {'; '.join(words)}; other methods in grey")
    st.caption(
        f"By name: {chosen}and the method of the highest AUROC; grey: the others. FPR at 95 % TPR "
        "is where a curve meets the dotted level."
    )


def _curves(choice: Choice, found: Evaluation, against: int, by: Method) -> list[Curve]:
    """ROC curves against one run, JEPA-SCORE first."""
    findings = found.of_out(against)
    best = max(findings, key=lambda one: one.metrics.auroc.value)
    strong = {JEPA_SCORE, by.name, best.method.name}
    colour = choice.colours[choice.others[against].name]
    curves = []
    for one in findings:
        held, named = found.judged[one.method.name], one.method.name in strong
        x, y = roc(*(side[np.isfinite(side)] for side in (held.values_in, held.values_out[against])))
        curves.append(Curve(one.method.title, colour if named else MUTED, x, y, strong=named))
    return curves


def told(interval: Interval) -> str:
    """A number with its interval."""
    digits = 3 if 0 < interval.high - interval.low < 0.02 else 2
    low, high = (number(end, digits) for end in (interval.low, interval.high))
    return f"{number(interval.value, digits)} ({low}–\u2060{high})"  # not to be broken there


def pick_against(choice: Choice) -> int:
    """Which of the other runs table and curves are about; kept in the URL as ``against``."""
    names = [choice.name(run) for run in choice.others]
    if len(names) == 1:
        return 0
    shown = pickers.current_one("against", names, names[0])
    if all(map(_HARMLESS.fullmatch, names)):
        chosen = st.segmented_control(
            "Against", names, default=names[0], key="against", bind="query-params", required=True,
            label_visibility="collapsed",
        )  # fmt: skip
    else:  # the options of a list are plain text; a button would read them as Markdown
        chosen = st.selectbox(
            "Against", names, key="against", bind="query-params", label_visibility="collapsed", width=400
        )
    return names.index(chosen if chosen in names else shown)


def pick_method(found: Evaluation, key: str, first: str, label: str, about: str) -> Method:
    """Choose a method among those that were possible; kept in the URL under the key."""
    known = {held.method.title: held.method for held in found.judged.values()}
    start = next((title for title, method in known.items() if method.name == first), next(iter(known)))
    with pickers.chip(label, pickers.current_one(key, list(known), start)):
        chosen = st.selectbox(
            label, list(known), index=list(known).index(start), key=key, bind="query-params", width=280, help=about
        )
    return known.get(chosen) or known[start]


def pick_by(found: Evaluation) -> Judged:
    """The method whose images are shown; kept in the URL as ``by``."""
    return found.judged[pick_method(found, "by", JEPA_SCORE, "Images by", _BY).name]


def pick_versus(found: Evaluation, by: Judged) -> Judged:
    """The method to set beside it; kept in the URL as ``versus``."""
    first = "knn" if by.method.name == JEPA_SCORE else JEPA_SCORE
    return found.judged[pick_method(found, "versus", first, "Compare with", _VERSUS).name]


def _about(one: Finding) -> str:
    known = {method.name: method.about for method in methods()}
    notes = f" ({', '.join(md(note) for note in one.notes)})" if one.notes else ""
    return f"{md(known.get(one.method.name, one.method.about))}{notes}"


def _whisker(one: Finding) -> Whisker:
    auroc = one.metrics.auroc
    decided = one.metrics.direction != "undecided"
    return Whisker(titled(one.method), auroc.value, auroc.low, auroc.high, decided, one.method.is_score)


def _against(one: Finding) -> str:
    """The paired comparison in a cell."""
    if np.isnan(one.p):
        return EMPTY
    sign = "+" if one.difference > 0 else ""
    return f"{sign}{number(one.difference, 2)}, p {_p(one.p)}"


def _p(p: float) -> str:
    return EMPTY if np.isnan(p) else "< 0.001" if p < 0.001 else f"= {number(p, 3)}"


def _seconds(seconds: float) -> str:
    return f"{number(1000 * seconds, 0)} ms" if seconds >= 0.001 else "< 1 ms"


def _in_words(choice: Choice, found: Evaluation) -> str:
    """What the chart shows, for who does not see it."""
    parts = []
    for number_, run in enumerate(choice.others):
        ranked = sorted(found.of_out(number_), key=lambda one: -one.metrics.auroc.value)
        told_ = ", ".join(f"{one.method.title} {number(one.metrics.auroc.value, 2)}" for one in ranked)
        parts.append(f"against {choice.name(run)}: {told_}")
    return f"AUROC of each method {'; '.join(parts)}"
