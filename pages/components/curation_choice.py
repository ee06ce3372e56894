"""What the page on curation measures: run, score, rules, splits, duplicates; all kept in the URL."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from jepascore_core.curating import BRIGHTNESS, Candidates, Searched
from jepascore_core.curation import FRACTIONS, RULES, USUAL_RULES
from jepascore_core.decision_plots import RULE_NAMES
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders, pickers
from pages.components.prepared import Work, follow, prepared
from pages.components.text import md, public_md

SCORES = {"Raw": "raw", "Sphere": "sphere", "Corrected": "corrected", "Listing 1": "listing1", "Brightness": BRIGHTNESS}
SPLITS = ("10", "20", "50")
NEAR = ("by itself", "0.9", "0.95", "0.98", "0.99", "0.995", "0.999", "equal only")
_ABOUT = (
    "The paper’s JEPA-SCORE, eq. (5).",
    "Eq. (5) of the embedding normalised to unit length.",
    "Eq. (5) plus the log-density of the embedding.",
    "Σ ln σ over all D: the paper’s code.",
    "Mean brightness of the thumbnail, of the first 5,000 images: the simplest rival, and a control.",
)


@dataclass(frozen=True)
class Choice:
    """What the page measures.

    Attributes:
        run: The run.
        by: Name of the score, as ``curating.SCORES`` has it.
        rules: Names in ``curation.RULES``.
        splits: Number of splits.
        near: Cosine similarity of near-duplicates; None derives it.
        keep_duplicates: Let duplicates take part.
    """

    run: Run
    by: str
    rules: tuple[str, ...]
    splits: int
    near: float | None
    keep_duplicates: bool

    @property
    def rule(self) -> ScoreRule:
        """Convention of the scores that galleries show."""
        return ScoreRule() if self.by == BRIGHTNESS else ScoreRule(self.by)

    def score_name(self) -> str:
        """The score in a sentence, Markdown."""
        return "mean brightness" if self.by == BRIGHTNESS else md(pickers.rule_name(self.rule, [self.run]))

    def searched(self) -> Searched:
        """Embeddings and duplicates of the run."""
        return loaders.searched(self.run, self.near)

    def candidates(self) -> Candidates:
        """Images that can be chosen."""
        return loaders.candidates(self.run, self.by, self.near)


def choose(runs: Sequence[Run]) -> Choice:
    """The row of controls."""
    pickers.tell_unknown({
        "scored_by": pickers.one_of(SCORES), "rules": pickers.one_of(RULE_NAMES.values()),
        "splits": pickers.one_of(SPLITS), "near": pickers.one_of(NEAR),
    })  # fmt: skip
    labels = pickers.by_label(runs)
    with st.container(horizontal=True):
        run = pickers.pick_run(labels, pickers.latest_family(runs)[0])
        by, computing = _pick_score(run)
        rules = _pick_rules()
        splits = _pick_splits()
        near, keep = _pick_duplicates()
    if computing is not None:
        follow(computing)
        st.stop()
    if not prepared(("duplicates", near), [run], lambda tell: loaders.searched(run, near), "Looking for duplicates"):
        st.stop()
    if run.progress().active:
        st.caption(":material/info: This run is still at work; the numbers are those of the images so far.")
    return Choice(run, by, rules, splits, near, keep)


def _pick_score(run: Run) -> tuple[str, Work | None]:
    """Choose the score, kept in the URL as ``scored_by``; raw where the run lacks another. What computes it, if any."""
    wanted = SCORES[pickers.current_one("scored_by", list(SCORES), "Raw")]
    computing = None if wanted == BRIGHTNESS else pickers.ordering([run], ScoreRule(wanted))
    why = None if wanted == BRIGHTNESS or computing else loaders.why_not(run, ScoreRule(wanted))
    used = "raw" if why else wanted
    with pickers.chip("Score", next(label for label, name in SCORES.items() if name == used)):
        st.radio("Score", list(SCORES), key="scored_by", bind="query-params", captions=_ABOUT, width=420)
        if why:
            st.caption(f":material/info: {public_md(why)} The raw score is used.")
    return used, computing


def _pick_rules() -> tuple[str, ...]:
    """Choose rules; kept in the URL as ``rules``."""
    names = {RULE_NAMES[rule]: rule for rule in RULES}
    start = [RULE_NAMES[rule] for rule in USUAL_RULES]
    shown = pickers.current("rules", list(names), start)
    with pickers.chip("Keep", pickers.shortened(shown, 2) or "the usual"):
        st.caption("Each rule is compared with random choice of the same size; more rules make each test stricter.")
        chosen = st.multiselect(
            "Rules", list(names), default=start, key="rules", bind="query-params", width=420,
            placeholder="The usual four",
        )  # fmt: skip
    return tuple(names[name] for name in chosen if name in names) or USUAL_RULES


def _pick_splits() -> int:
    """Choose the number of splits; kept in the URL as ``splits``."""
    shown = pickers.current_one("splits", SPLITS, "20")
    with pickers.chip("Splits", shown):
        st.caption(
            "Each holds out other images and draws other random ones; more take longer and narrow the intervals."
        )
        chosen = st.segmented_control(
            "Splits", SPLITS, default="20", key="splits", bind="query-params", required=True, width=320
        )
    return int(chosen if chosen in SPLITS else "20")


def _pick_duplicates() -> tuple[float | None, bool]:
    """Choose what counts as a duplicate, and whether they take part; kept in the URL as ``near`` and ``copies``."""
    near = pickers.current_one("near", NEAR, NEAR[0])
    copies = pickers.current_one("copies", ["one of each", "all"], "one of each")
    with pickers.chip("Duplicates", copies if near == NEAR[0] else f"{near}, {copies}"):
        st.caption("Cosine similarity from which two images are near-duplicates; by itself: told by how near they are.")
        near = st.select_slider("Near from", NEAR, value=NEAR[0], key="near", bind="query-params", width=420)
        copies = st.segmented_control(
            "Keep", ["one of each", "all"], default="one of each", key="copies", bind="query-params", required=True,
            help="With all, copies still stay on one side of every split.",
        )  # fmt: skip
    known = {NEAR[0]: None, NEAR[-1]: 1.0}
    return known[near] if near in known else float(near), copies == "all"


def shares() -> tuple[float, ...]:
    """Shares of images that are kept."""
    return FRACTIONS
