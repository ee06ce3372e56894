"""What the sensitivity page shows: experiment, run, methods, quantity, other images; all kept in the URL."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from jepascore_core import store
from jepascore_core.naming import is_variant
from jepascore_core.outliers import methods, same_encoder
from jepascore_core.sensitivity_plots import AUROC, CHANGE, FELL
from jepascore_core.store import Run
from pages.components import pickers

CORRUPTIONS, CLASSES, LABELS, LAYERS = VIEWS = ("Corruptions", "Leave one class out", "Label noise", "Layers")
QUANTITIES = {
    "AUROC": AUROC,
    "Mean change": CHANGE,
    "Share that falls": FELL,
}
TITLES = {method.title: method.name for method in methods()}
FIRST = ("jepa_score", "knn", "mahalanobis", "embedding_norm")
_MEANS = (
    "Chance that a clean image has a higher value than a corrupted one.",
    "Of each image's value, corrupted minus clean.",
    "Images whose value is lower after the corruption.",
)


@dataclass(frozen=True)
class Choice:
    """What the page shows.

    Attributes:
        view: One of ``VIEWS``.
        run: The run that is put to the test.
        methods: Title by name of the methods to draw, JEPA-SCORE first where it is among them.
        quantity: What the dose-response draws.
        other: The run of other images, for layers; None where there is none.
    """

    view: str
    run: Run
    methods: dict[str, str]
    quantity: str
    other: Run | None


def judgeable(runs: Sequence[Run]) -> list[Run]:
    """Runs that can be put to the test: clean images under whole encoders, where there are any."""
    return [run for run in runs if not is_variant(run)] or list(runs)


def tell_unknown() -> None:
    """Say which choices of the address mean nothing."""
    pickers.tell_unknown({
        "view": pickers.one_of(VIEWS), "methods": pickers.one_of(TITLES), "show": pickers.one_of(QUANTITIES),
    })  # fmt: skip


def pick_view() -> str:
    """Choose the experiment; kept in the URL as ``view``."""
    view = st.segmented_control(
        "Experiment", VIEWS, default=CORRUPTIONS, key="view", bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    return str(view) if view in VIEWS else CORRUPTIONS


def choose(view: str, run: Run, runs: Sequence[Run]) -> Choice:
    """The other controls of an experiment."""
    other = _pick_other(run, runs) if view == LAYERS else None
    chosen = _pick_methods() if view != LABELS else {}
    quantity = _pick_quantity() if view == CORRUPTIONS else "AUROC"
    return Choice(view, run, chosen, quantity, other)


def _pick_methods() -> dict[str, str]:
    """Choose methods; kept in the URL as ``methods``."""
    known = {name: title for title, name in TITLES.items()}
    start = [known[name] for name in FIRST]
    shown = pickers.current("methods", list(TITLES), start)
    with pickers.chip("Methods", pickers.shortened(shown, 1) or "none"):
        chosen = st.multiselect(
            "Methods", list(TITLES), default=start, key="methods", bind="query-params", width=420,
            placeholder="Choose methods",
            help="What learns is cross-fitted: no image is judged by a model that was fitted to it or to its twin.",
        )  # fmt: skip
    wanted = [title for title in TITLES if title in chosen] or [known[FIRST[0]]]
    return {TITLES[title]: title for title in wanted}


def _pick_quantity() -> str:
    """Choose what the lines show; kept in the URL as ``show``."""
    names = list(QUANTITIES)
    with pickers.chip("Shown", pickers.current_one("show", names, names[0])):
        shown = st.radio("Shown", names, key="show", bind="query-params", captions=_MEANS, width=360)
    return shown if shown in QUANTITIES else names[0]


def _pick_other(run: Run, runs: Sequence[Run]) -> Run | None:
    """Choose the images that each layer is to tell from those of the run; kept in the URL as ``other``."""
    beside = [one for one in store.list_runs() if one.problem is None and pickers.scored(one)]
    known = [one for one in [*runs, *beside] if one.name != run.name and same_encoder(run, one)]
    labels = pickers.by_label(list({one.name: one for one in known}.values()))
    if not labels:
        return None
    plain = next((label for label, one in labels.items() if not is_variant(one)), next(iter(labels)))
    with pickers.chip("Other images", pickers.current_one("other", list(labels), plain)):
        label = st.selectbox(
            "Other images", list(labels), index=list(labels).index(plain), key="other", bind="query-params", width=320,
            help="A run of the same encoder; of other images, or of the same ones corrupted.",
        )  # fmt: skip
    return labels.get(label)
