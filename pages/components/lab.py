"""Controls of the theory lab: what decides an experiment. Every choice lives in the URL; unknown values are ignored."""

import uuid

import streamlit as st

from jepascore_core.trainer.theory_encoder import FEW, LabConfig
from jepascore_core.trainer.theory_live import Shelf
from pages.components import pickers
from pages.components.text import count, number, plural

OBJECTIVES = {
    "Uniformity": "uniformity",
    "SIGReg": "sigreg",
    "VICReg": "vicreg",
    "Moment matching": "moments",
}
_ABOUT_OBJECTIVES = (
    "evenly over the unit sphere, D = d + 1",
    "Gaussian along random directions, D = d",
    "variance 1, no correlation, D = d",
    "mean 0 and covariance I, D = d",
)
BREAKS = {
    "Nothing": "none",
    "No anti-collapse term": "no_anticollapse",
    "Too few samples": "few_samples",
    "Collapsed encoder": "collapsed",
}
_ABOUT_BREAKS = (
    "the theory as it stands",
    "only the agreement of views is trained",
    f"{FEW} points to train on",
    "half of the embedding is silent",
)
SCORES = {"Raw": "raw", "Sphere": "sphere", "Corrected": "corrected"}
ABOUT_SCORES = (
    "Σ ln σ, eq. (5), the paper’s",
    "of the embedding brought to the unit sphere",
    "adds the log-density of the embedding under a fitted Gaussian",
)
DIMS = ("2", "8", "32")
SAMPLES = ("100", "1000", "10000")
MOST_SEED = 9999.0
_DEFAULT = LabConfig()
_MIXTURE = {  # name of LabConfig: label, key, least, most, step
    "components": ("Components", "components", 1.0, 12.0, 1.0),
    "separation": ("Separation of their means", "separation", 0.0, 12.0, 0.5),
    "anisotropy": ("Anisotropy, longest axis over shortest", "anisotropy", 1.0, 8.0, 0.5),
    "scale_ratio": ("Scale ratio, widest component over narrowest", "scales", 1.0, 8.0, 0.5),
}


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The experiments that this server remembers."""
    return Shelf()


def watcher() -> str:
    """A name for this session, by which the shelf knows who looks."""
    return str(st.session_state.setdefault("lab_watcher", uuid.uuid4().hex))


def pick_experiment() -> LabConfig:
    """Choose an experiment, in one quiet row."""
    mixture = {key: pickers.between(low, high) for _, key, low, high, _ in _MIXTURE.values()}
    pickers.tell_unknown({
        "objective": pickers.one_of(OBJECTIVES),
        "break": pickers.one_of(BREAKS),
        "dim": pickers.one_of(DIMS),
        "samples": pickers.one_of(SAMPLES),
        "seed": pickers.between(0, MOST_SEED),
        "which": pickers.one_of(SCORES),
        **mixture,
    })
    with st.container(horizontal=True):
        objective, broken = pick_objective(), pick_break()
        dim = _pick_number("Dimension", "dim", DIMS, "2", "d, of the data.")
        samples = _pick_number("Samples", "samples", SAMPLES, "10000", "Points to train on.")
        with pickers.chip("Seed", count(_current("seed", 0, MOST_SEED, 0))):
            seed = _pick_seed()
            st.caption("Of mixture, samples, weights, batches and noise.")
        mixture_options = _pick_mixture()
    return LabConfig(
        dim=dim, samples=samples, seed=seed, objective=OBJECTIVES[objective],
        broken=BREAKS[broken], **mixture_options,  # type: ignore[arg-type]
    )  # fmt: skip


def pick_objective() -> str:
    """Choose the objective; a key of ``OBJECTIVES``, kept in the URL as ``objective``."""
    with pickers.chip("Objective", pickers.current("objective", list(OBJECTIVES), ["Uniformity"])[0]):
        name = st.radio("Objective", list(OBJECTIVES), captions=_ABOUT_OBJECTIVES, key="objective", bind="query-params")
    return name if name in OBJECTIVES else "Uniformity"


def pick_break() -> str:
    """Choose what is broken on purpose; a key of ``BREAKS``, kept in the URL as ``break``."""
    with pickers.chip("Broken", pickers.current("break", list(BREAKS), ["Nothing"])[0]):
        name = st.radio("Broken on purpose", list(BREAKS), captions=_ABOUT_BREAKS, key="break", bind="query-params")
    return name if name in BREAKS else "Nothing"


def pick_score() -> str:
    """Choose a score; a value of ``SCORES``, kept in the URL as ``which``."""
    with pickers.chip("Score", pickers.current("which", list(SCORES), ["Raw"])[0].lower()):
        name = st.radio("Score", list(SCORES), captions=ABOUT_SCORES, key="which", bind="query-params")
    return SCORES.get(name, "raw")


def _pick_number(label: str, key: str, options: tuple[str, ...], default: str, about: str) -> int:
    """Choose one of a few whole numbers."""
    with pickers.chip(label, count(int(pickers.current(key, options, [default])[0]))):
        value = st.segmented_control(
            label, options, default=default, key=key, bind="query-params", required=True,
            format_func=lambda text: text,
        )  # fmt: skip
        st.caption(about)
    return int(value if value in options else default)


def _pick_seed() -> int:
    """Choose a seed. A float to Streamlit, which fails on an address with more digits than an integer can take."""
    seed = st.number_input(
        "Seed", 0.0, MOST_SEED, 0.0, step=1.0, format="%.0f", key="seed", bind="query-params", width=140
    )
    return int(seed) if 0 <= seed <= MOST_SEED else 0


def _pick_mixture() -> dict[str, int | float]:
    """Choose the shape of the density."""
    default = {key: getattr(_DEFAULT, name) for name, (_, key, *_) in _MIXTURE.items()}
    shown = int(_current("components", 1, 12, default["components"]))
    changed = [
        f"{key} {number(value, 1)}"
        for _, key, low, high, _ in list(_MIXTURE.values())[1:]
        if (value := _current(key, low, high, default[key])) != default[key]
    ]
    chosen: dict[str, int | float] = {}
    with pickers.chip("Mixture", ", ".join([plural(shown, "component"), *changed])):
        for name, (label, key, low, high, step) in _MIXTURE.items():
            shape = "%.0f" if step == 1 else "%.1f"
            start = float(default[key])
            value = st.slider(label, low, high, start, step, shape, key=key, bind="query-params", width=300)
            value = min(high, max(low, value))
            chosen[name] = int(value) if name == "components" else value
    return chosen


def _current(key: str, low: float, high: float, default: float) -> float:
    """What a slider will hold in this run of the page."""
    text = str(st.session_state[key] if key in st.session_state else st.query_params.get(key, ""))
    return float(text) if pickers.between(low, high)(text) else default
