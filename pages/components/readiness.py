"""Parts of the page on readiness: which runs are compared, the sentence, the distributions and the measures."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from jepascore_core import readiness as ready
from jepascore_core.coverage import Measured
from jepascore_core.distribution_plots import density_plot
from jepascore_core.naming import distinct_names
from jepascore_core.plots import SCORE_AXIS
from jepascore_core.readiness import Beside, Readiness
from jepascore_core.store import Run, ScoreRule, encoder_of, same_dataset
from pages.components import loaders, pickers, words
from pages.components.captions import caption, chart
from pages.components.curves import drawn_curves
from pages.components.guard import card
from pages.components.prepared import Work, begin
from pages.components.text import EMPTY, column, count, dot, md, number, public_md

MOST_REFERENCES = 6
FIRST_REFERENCES = 3


@dataclass(frozen=True)
class Choice:
    """What the page compares.

    Attributes:
        domain: The run that is judged.
        references: Runs of the same encoder.
        rule: Convention of the score.
    """

    domain: Run
    references: tuple[Run, ...]
    rule: ScoreRule


def families(runs: Sequence[Run]) -> list[Run]:
    """Runs whose encoder has scored another dataset too, newest first."""
    return [run for run in runs if others(run, runs)]


def others(domain: Run, runs: Sequence[Run]) -> list[Run]:
    """Runs of the same encoder over other datasets, the largest of each dataset, oldest first."""
    alike = [run for run in runs if encoder_of(run) == encoder_of(domain) and len(same_dataset([domain, run])) == 2]
    largest = [max(group, key=pickers.scored) for group in same_dataset(alike)]
    return sorted(largest, key=lambda run: str(run.meta.get("created", "")))


def nothing_to_compare() -> None:
    """What to do where no encoder has scored two datasets."""
    with card("empty", horizontal_alignment="center", gap="xsmall"):
        st.space("small")
        st.markdown("**No encoder has scored two datasets yet**", text_alignment="center")
        st.caption("Score images that the encoder should be at home with, and images of your domain.")
        words.choose_images()
        st.space("small")


def choose(runs: Sequence[Run]) -> Choice:
    """The row of controls; every choice is kept in the URL."""
    labels = pickers.by_label(runs)
    with st.container(horizontal=True):
        domain = pickers.pick_run(labels, pickers.latest_family(runs)[-1])
        references = _pick_references(domain, runs)
        rule = pickers.pick_rule([domain, *references])
    if rule.convention == "corrected":
        st.caption(
            ":material/info: Corrected scores of two runs rest on two Gaussians, so that they cannot be compared. "
            "Shown is the raw score."
        )
        return Choice(domain, references, ScoreRule())
    pickers.note_on_score([domain, *references], rule)
    return Choice(domain, references, rule)


def assessing(choice: Choice) -> Work | None:
    """Begin to compare the domain with its references; None where that is done."""
    asked = choice.domain, choice.references, choice.rule
    return begin(
        ("readiness", choice.rule), [choice.domain, *choice.references], lambda tell: loaders.readiness(*asked),
        "Comparing scores and embeddings with the references", patience=4,
    )  # fmt: skip


def _pick_references(domain: Run, runs: Sequence[Run]) -> tuple[Run, ...]:
    """Choose the references; kept in the URL as ``beside``."""
    held = others(domain, runs)
    names = distinct_names(held)
    known = {names[run.name]: run for run in held}
    start = list(known)[:FIRST_REFERENCES]
    shown = pickers.current("beside", list(known), start)
    with pickers.chip("Beside", pickers.shortened(shown, 3) or "none"):
        st.caption("Datasets that the same encoder has scored; choose those that it should be at home with.")
        chosen = st.multiselect(
            "References", list(known), default=start, key="beside", bind="query-params", width=420,
            max_selections=MOST_REFERENCES, placeholder="Choose references",
        )  # fmt: skip
    return tuple(known[name] for name in chosen if name in known)[:MOST_REFERENCES]


def draw_sentence(found: Readiness) -> None:
    """What the numbers support."""
    differences, classes, unsaid = ready.sentences(found)
    st.markdown(md(differences))
    st.markdown(md(classes))
    st.caption(md(unsaid))


def draw_scores(choice: Choice) -> None:
    """The domain's score distribution beside the references'."""
    runs = [choice.domain, *choice.references]
    drawn = drawn_curves(runs, choice.rule, dots=0)
    if not drawn:
        st.caption("No image of these runs has such a score.")
        return
    figure = density_plot([item.curve for item in drawn])
    title = SCORE_AXIS.replace("JEPA-SCORE", pickers.score_title(choice.rule))
    figure.for_each_xaxis(lambda axis: axis.update(title_text=title), {"title.text": SCORE_AXIS})
    told = ", ".join(item.curve.name for item in drawn)
    chart(figure, key="scores", alt=f"Densities of the {pickers.score_title(choice.rule)} of {told}")
    caption([item.run for item in drawn], [len(item.places) for item in drawn], choice.rule)


def draw_beside(choice: Choice, found: Readiness) -> None:
    """Every measure that takes a reference."""
    st.markdown(f"**{md(found.name)} beside its references**")
    colours = pickers.colours(choice.references)
    frame = pd.DataFrame([_beside_row(one, colours.get(one.run, "#85878D")) for one in found.beside])
    frame = frame.apply(lambda cells: cells if cells.name in ("reference", "scores lie") else column(cells))
    st.table(frame, border="horizontal", hide_index=True, alt="The domain beside each reference")
    for why in dict.fromkeys(one.why for one in found.beside if one.why):
        st.caption(f":material/info: {public_md(why)}")
    alike = next((one.coverage for one in found.beside if one.coverage is not None), None)
    expected = f"; two alike sets would have {number(alike.expected)} and about 1" if alike else ""
    st.caption(
        "AUROC: chance that an image of the reference scores above one of the domain (DeLong). *Below 5 %*: share of "
        "the domain below the reference’s 5 % quantile (bootstrap of both). Coverage: share of the domain’s images "
        "that have one of the reference nearer than their fifth neighbour; density: how often (Naeem et al. 2020)"
        f"{expected}. Both from as many images of each, at most 2\u202f000, with the jackknife’s interval over groups "
        "of images."
    )


def _beside_row(one: Beside, colour: str) -> dict[str, str]:
    """One line of the table."""
    apart, held = one.separation, one.coverage
    return {
        "reference": f"{dot(colour)}\u00a0{md(one.name)}",
        "images": count(one.n),
        "AUROC (95 %)": ready.interval(Measured(apart.auroc, apart.low, apart.high)) if apart else EMPTY,
        "scores lie": apart.direction if apart else EMPTY,
        "KS": number(apart.ks) if apart else EMPTY,
        "below 5 %": ready.interval(one.low, 0, percent=True),
        "coverage": ready.interval(held.coverage) if held else EMPTY,
        "density": ready.interval(held.density) if held else EMPTY,
        "effective rank": ready.interval(one.rank, 1),
    }


def draw_within(found: Readiness) -> None:
    """Every measure of the domain by itself."""
    st.markdown(f"**Within {md(found.name)}**")
    facts = {"images": count(found.n)}
    if not found.why_no_rank:
        facts[f"effective rank, of {found.dim}"] = ready.interval(found.rank, 1)
        facts["share of D"] = ready.interval(ready.share_of_dim(found), 0, percent=True)
    if (mine := found.probed) is not None:
        facts |= {
            "k-NN accuracy (95 %)": ready.interval(mine.accuracy, 1, percent=True),
            "balanced": f"{number(100 * mine.balanced, 1)} %",
            "largest class": f"{number(100 * mine.majority, 1)} %",
            f"chance, {count(mine.classes)} classes": f"{number(100 * mine.chance, 1)} %",
        }
    st.table(pd.DataFrame([facts]), border="horizontal", hide_index=True, alt="The domain by itself")
    for why in dict.fromkeys(filter(None, (found.why_no_rank, found.why_no_probe))):
        st.caption(f":material/info: {public_md(why)}")
    st.caption(
        "Effective rank: over how many directions the embeddings spread (Roy and Vetterli 2007); with few images "
        f"beside D it is too small, so that domain and references are measured on as many, {count(found.rank_images)}. "
        "k-NN: each image’s class from its five most similar others, one of each group of duplicates; intervals by the "
        "jackknife over images."
    )
