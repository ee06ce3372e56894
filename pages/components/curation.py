"""What curation is worth: the verdict in words, accuracy against the share that is kept, and all numbers."""

import pandas as pd
import streamlit as st

from jepascore_core import curation
from jepascore_core.curating import MOST_MEASURED
from jepascore_core.curation import PROBE_WORDS, Outcome, Trials
from jepascore_core.decision_plots import RULE_NAMES, curation_plot
from jepascore_core.errors import RunError
from jepascore_core.naming import encoder_phrase
from pages.components import loaders, pickers
from pages.components.curation_choice import Choice, shares
from pages.components.prepared import Tell, prepared
from pages.components.steady import steady
from pages.components.text import EMPTY, column, count, md, number, plural, public_md


def draw_verdict(choice: Choice) -> Trials | None:
    """What was found, in a few sentences; None while it is measured, or where it cannot be, and why."""
    asked = choice.run, choice.by, choice.near, choice.rules, shares(), choice.splits, choice.keep_duplicates

    def measure(tell: Tell) -> None:
        def on_split(done: int, splits: int) -> None:
            tell(done / splits, f"Fitting probes on what each rule keeps: split {done + 1} of {splits}")

        loaders.trials(*asked, on_split)

    try:
        if not prepared(("trials", *asked[1:]), [choice.run], measure, "Fitting probes on what each rule keeps"):
            return None
        trials = loaders.trials(*asked)
    except RunError as error:
        st.markdown(f"**Nothing can be measured here.** {public_md(error)}")
        st.caption("Duplicates, and what a rule would keep, are shown all the same.")
        return None
    first, *rest = curation.verdict(trials).split(". ", 1)
    st.markdown(f"**{md(first)}{'.' if rest else ''}** {md(' '.join(rest))}")
    if lost := curation.losses(trials):
        st.caption(f":material/warning: {md(lost)}")
    return trials


def draw_accuracy(choice: Choice, trials: Trials) -> None:
    """The figure, what stands behind it, and its numbers."""
    st.markdown("**Accuracy of a probe fitted on what is kept, judged on held-out images**")
    steady(lambda: curation_plot(trials), trials, key="curation", alt=_in_words(trials), growing=False)
    uneven = f" The largest class holds {number(100 * trials.majority, 0)} % of them." if trials.uneven else ""
    st.caption(
        f"{md(encoder_phrase(choice.run))}: {md(pickers.dataset_name(choice.run))}, {plural(trials.images, 'image')} "
        f"in {count(trials.classes)} classes, chosen by {choice.score_name()}; {count(trials.training)} to choose from "
        f"and {count(trials.judged)} held out, mean of {trials.seeds} splits by a hash of dataset and key.{uneven}"
        f"{_limited(choice, trials)}"
    )
    st.caption(
        "Bars: 95 % t-interval of the difference from random choice of as many images in the same split (within "
        "classes for *per class*); the grey band is that of random choice itself; a filled dot differs from random "
        "after Holm’s correction for all rules, shares and probes. Intervals are widened because splits share images "
        "(Nadeau and Bengio 2003). They cover another split and draw of these images, not another dataset."
    )
    with st.expander("All numbers"):
        for probe, name in PROBE_WORDS.items():
            st.markdown(f"**{name}**")
            _table([one for one in trials.outcomes if one.probe == probe], name, uneven=trials.uneven)


def _limited(choice: Choice, trials: Trials) -> str:
    """How much of a large run took part."""
    among = choice.candidates()
    if len(among) <= MOST_MEASURED:
        return ""
    all_classes = sum(name != "" for name in among.class_names)
    some = f", in {count(trials.classes)} of {count(all_classes)} classes" if trials.classes < all_classes else ""
    return f" These are some of {count(len(among))}, a stratified sample{some}; `curate --limit` takes more."


def _in_words(trials: Trials) -> str:
    """The figure for who does not see it."""
    told = []
    for probe, name in PROBE_WORDS.items():
        ends = [trials.of(rule, probe) for rule in ("random", *RULE_NAMES)]
        parts = [
            f"{RULE_NAMES.get(found[0].rule, 'random')} "
            + ", ".join(f"{100 * one.accuracy:.0f} % of {100 * one.fraction:g} %" for one in found)
            for found in ends
            if found
        ]
        told.append(f"{name}: {'; '.join(parts)}")
    return f"Accuracy against the share of images kept. {'. '.join(told)}."


def _table(outcomes: list[Outcome], name: str, *, uneven: bool) -> None:
    """Every outcome of one probe."""
    frame = pd.DataFrame([
        {
            "rule": {"all": "all images", "random": "random", "random_per_class": "random within classes"}.get(
                one.rule, RULE_NAMES.get(one.rule, one.rule)
            ),
            "kept": f"{100 * one.fraction:g} %",
            "images": count(one.n_kept),
            "accuracy, % (95 %)": _range(one.accuracy, one.low, one.high),
            **({"balanced, %": number(100 * one.balanced, 1)} if uneven else {}),
            "against random, points": _range(one.difference, one.difference_low, one.difference_high)
            if one.control
            else EMPTY,
            "p, Holm": EMPTY if not one.control else "< 0.001" if one.p_holm < 0.001 else number(one.p_holm, 3),
            "found": one.found if one.control else EMPTY,
        }
        for one in outcomes
    ])
    st.table(
        frame.apply(lambda cells: cells if cells.name in ("rule", "found") else column(cells)),
        border="horizontal", hide_index=True, alt=f"Outcomes of the {name}",
    )  # fmt: skip


def _range(value: float, low: float, high: float) -> str:
    """A share or a difference in points, with its interval."""
    return f"{number(100 * value, 1)} ({number(100 * low, 1)} … {number(100 * high, 1)})"
