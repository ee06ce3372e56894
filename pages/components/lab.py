"""Controls of the theory lab: what decides an experiment. Every choice lives in the URL; unknown values are ignored."""

import uuid

import streamlit as st

from jepascore_core.theory.encoder import FEW, LabConfig
from jepascore_core.theory.live import Shelf
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
MOST_SEED = 9999
MOST_COMPONENTS = 12
_DEFAULT = LabConfig()
_MIXTURE = {  # name of LabConfig: label, key, least, most
    "separation": ("Separation of their means", "separation", 0.0, 12.0),
    "anisotropy": ("Anisotropy, longest axis over shortest", "anisotropy", 1.0, 8.0),
    "scale_ratio": ("Scale ratio, widest component over narrowest", "scales", 1.0, 8.0),
}


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The experiments that this server remembers."""
    return Shelf()


def watcher() -> str:
    """A name for this session, by which the shelf knows who looks."""
    return str(st.session_state.setdefault("lab_watcher", uuid.uuid4().hex))


def pick_experiment() -> tuple[LabConfig, str]:
    """Choose an experiment and the score it is judged by, in one quiet row."""
    mixture = {key: pickers.between(low, high) for _, key, low, high in _MIXTURE.values()}
    pickers.tell_unknown({
        "objective": pickers.one_of(OBJECTIVES),
        "break": pickers.one_of(BREAKS),
        "dim": pickers.one_of(DIMS),
        "samples": pickers.one_of(SAMPLES),
        "seed": lambda text: text.isascii() and text.isdigit() and int(text[:9]) <= MOST_SEED,
        "components": pickers.one_of(_components()),
        "which": pickers.one_of(SCORES),
        **mixture,
    })
    with st.container(horizontal=True):
        objective, broken = pick_objective(), pick_break()
        dim = _pick_number("Dimension", "dim", DIMS, "2", "d, of the data.")
        samples = _pick_number("Samples", "samples", SAMPLES, "10000", "Points to train on.")
        seed = _pick_seed()
        mixture_options = _pick_mixture()
        which = _pick_score()
    config = LabConfig(
        dim=dim, samples=samples, seed=seed, objective=OBJECTIVES[objective],
        broken=BREAKS[broken], **mixture_options,  # type: ignore[arg-type]
    )  # fmt: skip
    return config, which


def pick_objective() -> str:
    """Choose the objective; a key of ``OBJECTIVES``, kept in the URL as ``objective``."""
    with pickers.chip("Objective", pickers.current_one("objective", list(OBJECTIVES), "Uniformity")):
        name = st.radio("Objective", list(OBJECTIVES), captions=_ABOUT_OBJECTIVES, key="objective", bind="query-params")
    return name if name in OBJECTIVES else "Uniformity"


def pick_break() -> str:
    """Choose what is broken on purpose; a key of ``BREAKS``, kept in the URL as ``break``."""
    with pickers.chip("Broken", pickers.current_one("break", list(BREAKS), "Nothing")):
        name = st.radio("Broken on purpose", list(BREAKS), captions=_ABOUT_BREAKS, key="break", bind="query-params")
    return name if name in BREAKS else "Nothing"


def _pick_score() -> str:
    """Choose a score; a value of ``SCORES``, kept in the URL as ``which``."""
    with pickers.chip("Score", pickers.current_one("which", list(SCORES), "Raw")):
        name = st.radio("Score", list(SCORES), captions=ABOUT_SCORES, key="which", bind="query-params")
    return SCORES.get(name, "raw")


def _pick_number(label: str, key: str, options: tuple[str, ...], default: str, about: str) -> int:
    """Choose one of a few whole numbers."""
    with pickers.chip(label, count(int(pickers.current_one(key, options, default)))):
        value = st.segmented_control(
            label, options, default=default, key=key, bind="query-params", required=True,
            format_func=lambda text: text,
        )  # fmt: skip
        st.caption(about)
    return int(value if value in options else default)


def _pick_seed() -> int:
    """Choose a seed. As text: Streamlit's number input fails on an address with more digits than a float can take."""
    with pickers.chip("Seed", str(pickers.current_number("seed", 0, MOST_SEED, 0))):
        st.text_input("Seed", "0", 4, key="seed", bind="query-params", width=140)
        st.caption(f"Of mixture, samples, weights, batches and noise; 0 to {MOST_SEED}.")
    return pickers.current_number("seed", 0, MOST_SEED, 0)


def _pick_mixture() -> dict[str, int | float]:
    """Choose the shape of the density."""
    default = {key: float(getattr(_DEFAULT, name)) for name, (_, key, *_) in _MIXTURE.items()}
    most = str(_DEFAULT.components)
    shown = int(pickers.current_one("components", _components(), most))
    changed = [
        f"{key} {number(value, 1)}"
        for _, key, low, high in _MIXTURE.values()
        if (value := _current(key, low, high, default[key])) != default[key]
    ]
    chosen: dict[str, int | float] = {}
    with pickers.chip("Mixture", ", ".join([plural(shown, "component"), *changed])):
        count_of = st.select_slider(
            "Components", _components(), most, key="components", bind="query-params", width=300,
            help="How many Gaussians the density is the sum of.",
        )  # fmt: skip
        chosen["components"] = int(count_of if count_of in _components() else most)
        for name, (label, key, low, high) in _MIXTURE.items():
            value = st.slider(label, low, high, default[key], 0.5, "%.1f", key=key, bind="query-params", width=300)
            chosen[name] = min(high, max(low, value))
    return chosen


def _components() -> list[str]:
    """How many components a mixture may have."""
    return [str(n) for n in range(1, MOST_COMPONENTS + 1)]


def _current(key: str, low: float, high: float, default: float) -> float:
    """What a slider will hold in this run of the page."""
    text = str(st.session_state[key] if key in st.session_state else st.query_params.get(key, ""))
    return float(text) if pickers.between(low, high)(text) else default
