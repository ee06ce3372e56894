"""What the outliers page compares: an in-distribution run, others of the same encoder, and a view; kept in the URL."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from jepascore_core.naming import distinct_names
from jepascore_core.outliers import DROP_TOP, same_encoder
from jepascore_core.store import Run
from pages.components import pickers, words
from pages.components.guard import card
from pages.components.text import md, number

VIEWS = ("Methods", "Spectrum")
DROPS = (1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)  # %
MOST_OTHERS = 4


@dataclass(frozen=True)
class Choice:
    """What the page compares.

    Attributes:
        inside: The in-distribution run.
        others: Runs of other images.
        names: Short distinct name of each, by the run's name.
        colours: Of their datasets, by the run's name.
        view: One of ``VIEWS``.
        drop_top: Of the tail score, %.
    """

    inside: Run
    others: list[Run]
    names: dict[str, str]
    colours: dict[str, str]
    view: str
    drop_top: float

    @property
    def runs(self) -> list[Run]:
        """The in-distribution run, then the others."""
        return [self.inside, *self.others]

    def name(self, run: Run) -> str:
        """Short name of a run."""
        return self.names[run.name]


def comparable(runs: Sequence[Run]) -> list[Run]:
    """Runs beside which there is another of the same encoder, in the order given."""
    return [run for run in runs if any(other is not run and same_encoder(run, other) for other in runs)]


def nothing_to_compare(runs: Sequence[Run]) -> None:
    """What to score next where no encoder has two runs."""
    with card("empty", horizontal_alignment="center", gap="xsmall"):
        st.space("small")
        st.markdown("**No encoder has scored two sets of images yet**", text_alignment="center")
        st.caption(
            f"Score a second set under {md(pickers.encoder_name(runs[0]))}, such as `demo:digits` beside "
            f"{md(pickers.dataset_name(runs[0]))}: images that should look strange to it, or a folder of your own.",
            text_alignment="center",
        )
        words.choose_images()
        st.space("small")


def choose(runs: Sequence[Run]) -> Choice:
    """The row of controls; every choice is kept in the URL."""
    labels = pickers.by_label(runs)
    pickers.tell_unknown({
        "inside": pickers.one_of(labels),
        "view": pickers.one_of(VIEWS),
        "drop": pickers.one_of(map(str, DROPS)),
    })
    with st.container(horizontal=True, vertical_alignment="center"):
        view = st.segmented_control(
            "View", VIEWS, default=VIEWS[0], key="view", bind="query-params", required=True,
            label_visibility="collapsed",
        )  # fmt: skip
        inside = _pick_inside(labels)
        others, names = _pick_others(inside, runs)
        drop_top = _pick_drop() if view != VIEWS[1] else DROP_TOP
    shown = [inside, *others]
    return Choice(inside, others, names, pickers.colours(shown), str(view or VIEWS[0]), drop_top)


def _pick_inside(labels: dict[str, Run]) -> Run:
    """Choose the in-distribution run; kept in the URL as ``inside``."""
    family = pickers.latest_family(list(labels.values()))
    first = next(label for label, run in labels.items() if run.name == family[0].name)
    shown = pickers.current_one("inside", list(labels), first)
    with pickers.chip("In-distribution", shown):
        st.caption("The images that count as usual. Models are fitted to them, each to other images than it judges.")
        label = st.selectbox(
            "In-distribution run", list(labels), index=list(labels).index(first), key="inside", bind="query-params",
            width=360,
        )  # fmt: skip
    return labels.get(label) or labels[first]


def _pick_others(inside: Run, runs: Sequence[Run]) -> tuple[list[Run], dict[str, str]]:
    """Choose the runs to tell from it; kept in the URL as ``others``."""
    family = [run for run in runs if same_encoder(run, inside)]
    names = distinct_names(family)
    known = {names[run.name]: run for run in family if run.name != inside.name}
    mine = str(inside.meta["dataset"]["id"])
    fresh: dict[str, str] = {}
    for name, run in known.items():  # the newest run of each other dataset
        fresh.setdefault(str(run.meta["dataset"]["id"]), name)
    usual = [name for dataset, name in fresh.items() if dataset != mine][::-1] or list(known)
    start = usual[:MOST_OTHERS]
    shown = pickers.current("others", list(known), start)
    with pickers.chip("Against", pickers.shortened(shown, 3) or "none"):
        st.caption(f"Runs of the same encoder, at most {MOST_OTHERS}: the values of two encoders share no scale.")
        chosen = st.multiselect(
            "Other runs", list(known), default=start, key="others", bind="query-params", width=420,
            max_selections=MOST_OTHERS, placeholder="Choose runs",
        )  # fmt: skip
    return [known[name] for name in chosen if name in known][:MOST_OTHERS], names


def _pick_drop() -> float:
    """Choose what the tail score leaves out; kept in the URL as ``drop``."""
    usual = int(DROP_TOP)
    shown = pickers.current_one("drop", list(map(str, DROPS)), str(usual))
    with pickers.chip("Tail drops", f"top {number(float(shown), 0)} %"):
        st.caption("Share of the largest singular values that the tail score leaves out. *Spectrum* sweeps over it.")
        drop = st.select_slider("Drop the top (%)", DROPS, value=usual, key="drop", bind="query-params", width=320)
    return float(drop if drop in DROPS else usual)
