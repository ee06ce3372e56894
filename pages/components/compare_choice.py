"""What the page that compares encoders compares: dataset, encoders, classes, extremes, axes; all kept in the URL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import streamlit as st

from jepascore_core import jobs, store
from jepascore_core.allowed import read_only
from jepascore_core.comparison import FIRST_N
from jepascore_core.store import Common, Run, RunRequest, ScoreRule, encoder_of, same_dataset
from pages.components import loaders, pickers, words
from pages.components.captions import caption
from pages.components.guard import card
from pages.components.prepared import Tell, Work, begin, follow
from pages.components.text import count, listed, md, plural

COUNTS = (1, 2, 3, 5, 7, 10, 20, 50, 100, 200)  # images at each end of a class
MOST_ENCODERS = 6
FIRST_ENCODERS = 4
TWINS = ("demo:jepa-small", "demo:jepa-small-vicreg")


@dataclass(frozen=True)
class Choice:
    """What a page compares.

    Attributes:
        runs: One run an encoder; the first two fill the scatter.
        names: Of the encoders, distinct.
        classes: Classes to keep; none keeps all.
        n: Images at each end of a class.
        percentiles: Axes in percentiles, else in nats.
        in_class: Percentiles within the class, else within all images.
        rule: Convention of the score.
    """

    runs: list[Run]
    names: list[str]
    classes: tuple[str, ...]
    n: int
    percentiles: bool
    in_class: bool
    rule: ScoreRule


def comparable(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of each dataset that at least two encoders have scored, by a short distinct name, oldest dataset first."""
    found = [group for group in same_dataset(runs) if len({encoder_of(run) for run in group}) > 1]
    groups: dict[str, list[Run]] = {}
    for group in sorted(found, key=lambda group: min(str(run.meta.get("created", "")) for run in group)):
        name = pickers.dataset_name(group[0])
        groups[name if name not in groups else f"{name} · {group[0].name[-10:]}"] = group
    return groups


def nothing_to_compare() -> None:
    """What to do where no dataset has two encoders."""
    with card("empty", horizontal_alignment="center", gap="xsmall"):
        st.space("small")
        st.markdown("**No dataset has been scored by two encoders yet**", text_alignment="center")
        st.caption("Score the same images with another encoder, or with random weights for a control.")
        words.choose_images()
        st.space("small")


def offer_twins(runs: Sequence[Run]) -> None:
    """Where no dataset has two trained encoders: a button that scores the demo's photographs under two."""
    trained = [run for run in runs if not pickers.is_control(run)]
    enough = any(len({encoder_of(run) for run in group}) > 1 for group in same_dataset(trained))
    if enough or not trained or read_only():
        return
    with card("twins", gap="xsmall"):
        st.markdown("**Only controls to compare with so far**")
        st.caption("jepa-small and jepa-small-vicreg were trained on the same images, with two objectives.")
        if st.button("Score the demo’s photographs under both", icon=":material/play_arrow:", key="twins"):
            for encoder in TWINS:
                jobs.start(RunRequest(encoder, "demo:photos"))
            st.switch_page("pages/score_images.py")


def choose(groups: Mapping[str, list[Run]]) -> Choice:
    """The row of controls; every choice is kept in the URL."""
    pickers.tell_unknown({"dataset": pickers.one_of(groups), "n": pickers.one_of(map(str, COUNTS))})
    with st.container(horizontal=True):
        runs, names = _pick_encoders(groups[_pick_dataset(groups)])
        classes = _pick_classes(runs)
        n = _pick_n()
        percentiles, in_class = _pick_axes()
        begun = Choice(runs, names, classes, n, percentiles, in_class, ScoreRule())
        rule = pickers.pick_rule(runs, lambda wanted: _comparing(replace(begun, rule=wanted)))
    return replace(begun, rule=rule)


def compared(choice: Choice) -> bool:
    """Whether the images are matched and every two encoders compared; where not yet, that is said here."""
    if (work := _comparing(choice)) is not None:
        follow(work)
    else:
        pickers.note_on_score(choice.runs, choice.rule)
    return work is None


def _comparing(choice: Choice) -> Work | None:
    """Begin to compare encoders that all have such a score; None where that is done."""
    runs, rule = choice.runs, choice.rule

    def compare(tell: Tell) -> None:
        if len(runs) < 2 or any(loaders.why_not(run, rule) for run in runs):
            return
        common = loaders.common(runs, rule, choice.classes)
        for place, (i, j) in enumerate(pairs(runs)):
            tell((place + 1) / (len(pairs(runs)) + 1), f"Comparing {md(choice.names[i])} and {md(choice.names[j])}")
            if len(common):
                loaders.correlations(runs, common, rule, i, j)
                loaders.shared(runs, common, rule, i, j, choice.n)

    forgotten = len(runs) > 1 and store.known_common(runs, rule, choice.classes) is None
    name = "compare", rule, tuple(choice.classes), choice.n
    return begin(name, runs, compare, "Matching images by key", known=False if forgotten else None)


def pairs(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Every two of some runs."""
    return list(combinations(range(len(runs)), 2))


def _pick_dataset(groups: Mapping[str, list[Run]]) -> str:
    """Choose a dataset; kept in the URL as ``dataset``."""
    names = list(groups)
    with pickers.chip("Dataset", pickers.current_one("dataset", names, names[0])):
        st.caption("Datasets that at least two encoders have scored.")
        chosen = st.selectbox("Dataset", names, key="dataset", bind="query-params", width=320)
    return chosen if chosen in groups else names[0]


def _pick_encoders(group: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Choose encoders; kept in the URL as ``compare``."""
    known = _named(group)
    names = {run.name: name for name, run in known.items()}
    start = [names[run.name] for run in _first_encoders(group)]
    shown = pickers.current("compare", list(known), start)
    with pickers.chip("Encoders", pickers.shortened(shown, 2) or "none"):
        st.caption(f"Two to {MOST_ENCODERS}; the first two fill the scatter, x and y.")
        chosen = st.multiselect(
            "Encoders", list(known), default=start, key="compare", bind="query-params", width=420,
            max_selections=MOST_ENCODERS, placeholder="Choose encoders",
        )  # fmt: skip
    chosen = [name for name in chosen if name in known][:MOST_ENCODERS]
    return [known[name] for name in chosen], chosen


def _named(group: Sequence[Run]) -> dict[str, Run]:
    """Runs of one dataset by a distinct name of their encoder."""
    plain = [pickers.encoder_name(run) for run in group]
    named: dict[str, Run] = {}
    for name, run in zip(plain, group, strict=True):
        views, size = int(run.meta.get("views") or 1), run.meta["encoder"].get("input_size")
        more = [f"{views} views"] if views > 1 else []
        alike = [other for other, twin in zip(group, plain, strict=True) if twin == name]
        if len({encoder_of(other) for other in alike}) > 1 and isinstance(size, list):
            more.insert(0, f"{size[-1]} px")
        label = f"{name} ({', '.join(more)})" if more else name
        named[label if label not in named else f"{label} · {run.name[-10:]}"] = run
    return named


def _first_encoders(group: Sequence[Run]) -> list[Run]:
    """One run an encoder, the one with most images; trained ones first, controls last."""
    best: dict[tuple[str, str], Run] = {}
    for run in sorted(group, key=lambda run: (-pickers.scored(run), int(run.meta.get("views") or 1))):
        best.setdefault(encoder_of(run), run)
    held = {run.name for run in best.values()}
    ordered = sorted((run for run in group if run.name in held), key=pickers.is_control)
    trained = [run for run in ordered if not pickers.is_control(run)]
    controls = ordered[len(trained) :]
    return [*trained[: max(FIRST_ENCODERS - len(controls[:1]), 1)], *controls][:FIRST_ENCODERS]


def _pick_classes(runs: Sequence[Run]) -> tuple[str, ...]:
    """Choose classes; kept in the URL as ``classes``."""
    known = _classes_of(runs)
    shown = pickers.current("classes", known, [])
    with pickers.chip("Classes", pickers.shortened(shown, 2) or "all"):
        chosen = st.multiselect(
            "Classes", known, key="classes", bind="query-params", placeholder="All classes", disabled=len(known) < 2,
            width=420, help="Only images of these classes are compared.",
        )  # fmt: skip
    return tuple(name for name in chosen if name in known)


def _classes_of(runs: Sequence[Run]) -> list[str]:
    """Classes that some runs of one dataset were asked to score, in the dataset's order."""
    asked = [run.meta["sample"].get("classes") or run.meta["dataset"]["class_names"] for run in runs]
    return list(dict.fromkeys(str(name) for names in asked for name in names if name))


def _pick_n() -> int:
    """Choose how many images are an extreme; kept in the URL as ``n``."""
    shown = pickers.current_one("n", list(map(str, COUNTS)), str(FIRST_N))
    with pickers.chip("Extremes", f"{shown} at each end"):
        st.caption("Images at each end of each class, at most half of it. Figure 1 of the paper shows five of 1,000.")
        n = st.select_slider("Images at each end", COUNTS, value=FIRST_N, key="n", bind="query-params", width=320)
    return n if n in COUNTS else FIRST_N


def _pick_axes() -> tuple[bool, bool]:
    """Choose the axes of the scatter; kept in the URL as ``axes`` and ``within``."""
    axes, within = (
        pickers.current_one("axes", ["Percentile", "Score"], "Percentile"),
        pickers.current_one("within", ["Class", "Run"], "Class"),
    )
    with pickers.chip("Axes", f"{within.lower()} percentile" if axes == "Percentile" else "score"):
        axes = st.segmented_control(
            "Axes", ["Percentile", "Score"], default="Percentile", key="axes", bind="query-params", required=True,
            help="Percentiles of two encoders can be set against each other; their scores have different scales.",
        )  # fmt: skip
        within = st.segmented_control(
            "Percentiles within the", ["Class", "Run"], default="Class", key="within", bind="query-params",
            required=True, help="Also decides which disagreements are the largest.",
        )  # fmt: skip
    return axes != "Score", within != "Run"


def in_common(choice: Choice, common: Common) -> str:
    """How many images the runs share, where that is not all of them; Markdown."""
    if not len(common):
        return f"These runs have no {'image of these classes' if choice.classes else 'image'} in common."
    sizes = [len(held) for held in common.rankings]
    if choice.classes or all(size == len(common) for size in sizes):
        return ""
    held = listed([f"{md(name)} {count(size)}" for name, size in zip(choice.names, sizes, strict=True)])
    return f"{plural(len(common), 'image')} in common, matched by key; scored are {held}."


def told_caption(choice: Choice, common: Common, more: str = "", *, first: int | None = None) -> None:
    """The line beneath a chart."""
    runs = choice.runs[:first]
    caption(runs, [len(common)] * len(runs), choice.rule, more)
