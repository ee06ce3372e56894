"""Which runs, classes and convention a page shows. Every choice lives in the URL; unknown values are ignored."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import streamlit as st

from jepascore_core import store
from jepascore_core.naming import dataset_name as dataset_name
from jepascore_core.naming import encoder_name as encoder_name
from jepascore_core.naming import is_variant
from jepascore_core.naming import rule_name as rule_name
from jepascore_core.naming import score_title as score_title
from jepascore_core.plots import dataset_colours
from jepascore_core.store import Run, ScoreRule
from pages.components import loaders
from pages.components.prepared import Tell, Work, begin, follow
from pages.components.text import count, listed, md, plural, significant

RULES = {
    "Raw": ScoreRule(),
    "Sphere": ScoreRule("sphere"),
    "Corrected": ScoreRule("corrected"),
    "Listing 1, ε 1e−6": ScoreRule("listing1", 1e-6),
    "Listing 1, ε 1e−4": ScoreRule("listing1", 1e-4),
    "Listing 1, ε 1e−2": ScoreRule("listing1", 1e-2),
}
_ABOUT = (
    "Σ ln σ up to the rank: the paper’s JEPA-SCORE, eq. (5).",
    "Eq. (5) of the embedding normalised to unit length: in many dimensions a Gaussian lies near a sphere, Lemma 1.",
    "Eq. (5) plus the log-density of the embedding under a Gaussian fitted to the run: both terms of eq. (1).",
    "Σ ln σ over all D, σ clipped at ε: the paper’s code.",
    "The same, clipped earlier.",
    "The same, clipped earlier.",
)
ALL_IMAGES = "All images"
_SHOWN = "score_shown"  # the convention that this visitor saw last


def readable_runs(*, filled: bool = True) -> list[Run]:
    """Runs that can be read, newest first; with ``filled``, only those with a scored image."""
    runs = [run for run in store.list_runs() if run.problem is None]
    return [run for run in runs if not filled or scored(run)]


def broken_runs() -> list[Run]:
    """Folders that look like runs and cannot be read."""
    return [run for run in store.list_runs() if run.problem is not None]


def scored(run: Run) -> int:
    """Number of images of a run that have a score; 0 when the run cannot be read."""
    try:
        counts = loaders.counts(run)
    except Exception:
        return 0
    return counts["done"]


def by_label(runs: Sequence[Run]) -> dict[str, Run]:
    """A distinct label for each run; the oldest keeps the plain one, so that links stay valid."""
    labels: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (str(run.meta.get("created", "")), run.name)):
        label = run.label if run.label not in labels else f"{run.label} · {run.name[-10:]}"
        labels[label] = run
    order = {run.name: place for place, run in enumerate(runs)}
    return dict(sorted(labels.items(), key=lambda entry: order[entry[1].name]))


def colours(runs: Sequence[Run]) -> dict[str, str]:
    """Colour of each run's dataset, by run name; the same on every page."""
    known = dataset_colours([str(run.meta["dataset"]["id"]) for run in store.list_runs() if run.problem is None])
    return {run.name: known[str(run.meta["dataset"]["id"])] for run in runs}


def latest_family(runs: Sequence[Run]) -> list[Run]:
    """Runs of the encoder that was used last, one a dataset, oldest first: a fair first comparison.

    Controls with random weights, corrupted images and layers come first only where there is nothing else.
    """
    plain = [run for run in runs if not is_variant(run)] or list(runs)
    trained = [run for run in plain if not is_control(run)] or plain
    same = [run for run in trained if run.meta["encoder"]["digest"] == trained[0].meta["encoder"]["digest"]]
    newest: dict[str, Run] = {}
    for run in same:
        newest.setdefault(str(run.meta["dataset"]["id"]), run)
    return list(newest.values())[::-1]


def is_control(run: Run) -> bool:
    """Whether a run's encoder was never trained."""
    encoder = run.meta["encoder"]
    return not encoder.get("pretrained", True) or encoder.get("family") == "untrained"


@contextmanager
def chip(name: str, value: str) -> Iterator[None]:
    """A quiet button that names a choice and opens its control."""
    with st.popover(f":gray[{md(name)}] **{md(value)}**", key=f"chip_{name}"):
        yield


def current(key: str, known: Sequence[str], default: Sequence[str]) -> list[str]:
    """What a control will hold in this run of the page: what was chosen, else what the URL says, else the default."""
    value = st.session_state[key] if key in st.session_state else st.query_params.get_all(key)
    values = [str(item) for item in (value if isinstance(value, list) else [value]) if item]
    given = key in st.session_state or key in st.query_params
    found = [item for item in values if item in known]
    return found if found or (given and not values) else list(default)


def current_one(key: str, known: Sequence[str], default: str) -> str:
    """What a control of one choice will hold in this run of the page; as ``current``, never nothing."""
    return (current(key, known, [default]) or [default])[0]


def current_number(key: str, low: int, high: int, default: int) -> int:
    """What a slider of whole numbers will hold in this run of the page; as ``current``."""
    text = str(st.session_state[key] if key in st.session_state else st.query_params.get(key, ""))
    return int(text) if text.isascii() and text.isdigit() and low <= int(text) <= high else default


def one_of(names: Iterable[str]) -> Callable[[str], bool]:
    """A check for ``tell_unknown``: one of some names."""
    known = set(names)
    return lambda text: text in known


def between(low: float, high: float) -> Callable[[str], bool]:
    """A check for ``tell_unknown``: a number in a range, ends included."""

    def check(text: str) -> bool:
        if len(text) > 20 or not text.isascii():
            return False
        try:
            return low <= float(text) <= high
        except ValueError:
            return False

    return check


def tell_unknown(checks: Mapping[str, Callable[[str], bool]]) -> None:
    """Say in a sentence which choices of the address mean nothing; their controls fall back by themselves.

    To be called before the controls: drawing them takes such values out of the address.
    """
    wrong = [
        key
        for key, known in checks.items()
        if key not in st.session_state and not all(known(value) for value in st.query_params.get_all(key))
    ]
    if wrong:
        st.caption(f":material/info: The address asks for an unknown {listed(wrong)}; the usual choice is shown.")


def shortened(names: Sequence[str], most: int = 4) -> str:
    """A list of names that fits on a button."""
    shown = [name if len(name) <= 24 else f"{name[:23]}…" for name in names[:most]]
    return ", ".join(shown) + (f" +{len(names) - most}" if len(names) > most else "")


def pick_runs(labels: dict[str, Run], default: Sequence[Run]) -> list[Run]:
    """Choose several runs; kept in the URL as ``runs``."""
    names = {run.name: label for label, run in labels.items()}
    start = [names[run.name] for run in default]
    shown = [labels[label] for label in current("runs", list(labels), start)]
    encoders = {encoder_name(run) for run in shown}
    value = shortened([dataset_name(run) for run in shown] if len(encoders) == 1 else [run.label for run in shown], 3)
    with chip("Runs", value or "none"):
        st.caption("A run is one encoder over one dataset.")
        chosen = st.multiselect(
            "Runs",
            list(labels),
            default=start,
            key="runs",
            bind="query-params",
            width=420,
            placeholder="Choose runs",
            help="Each run keeps the colour of its dataset on every page. Scores of different encoders share no scale.",
        )
    return [labels[label] for label in chosen if label in labels]


def pick_run(labels: dict[str, Run], default: Run) -> Run:
    """Choose one run; kept in the URL as ``run``."""
    first = next(label for label, run in labels.items() if run.name == default.name)
    with chip("Run", current_one("run", list(labels), first)):
        label = st.selectbox(
            "Run",
            list(labels),
            index=list(labels).index(first),
            key="run",
            bind="query-params",
            width=320,
            help="A run is one encoder over one dataset.",
        )
    return labels.get(label) or default


def pick_rule(runs: Sequence[Run], preparing: Callable[[ScoreRule], Work | None] | None = None) -> ScoreRule:
    """Choose the convention of the score, kept in the URL as ``score``.

    Args:
        runs: The runs.
        preparing: Begins what the page needs under a convention, for a page that shows nothing until that is there.

    Returns:
        The convention: raw where one of the runs lacks another, and that shown before while another is being computed,
        which takes a moment for very large runs. ``note_on_score`` says either.
    """
    rule = _usable(runs, preparing)
    with chip("Score", rule_key(rule)):
        st.radio(
            "Score", list(RULES), key="score", bind="query-params", captions=_ABOUT, width=420,
            help="How a stored row becomes a score; no image is scored again.",
        )  # fmt: skip
    st.session_state[_SHOWN] = rule
    return rule


def note_on_score(runs: Sequence[Run], rule: ScoreRule) -> None:
    """One sentence on what stands behind the scores shown, where there is something to say."""
    wanted = _wanted()
    if wanted != rule:
        if (work := ordering(runs, wanted)) is not None:
            follow(work, f"Shown meanwhile: {rule_key(rule).lower()}.")
            return
        reasons = dict.fromkeys(filter(None, (loaders.why_not(run, wanted) for run in runs)))
        if not reasons:  # it has just been computed
            st.rerun()
        st.caption(f":material/info: {md(next(iter(reasons)))} Shown is the raw score.")
    elif rule.convention == "corrected":
        fits = "; ".join(_fit(run) for run in runs)
        own = (
            " Each run has its own, and the narrower its embeddings the higher its scores: "
            "compare images within a run, not runs."
        )
        own = own if len(runs) > 1 else ""
        st.caption(f":material/info: Gaussian fitted to {fits}.{own}")


def _wanted() -> ScoreRule:
    """The convention that the control holds, or the URL asks for."""
    return RULES[current_one("score", list(RULES), "Raw")]


def _usable(runs: Sequence[Run], preparing: Callable[[ScoreRule], Work | None] | None) -> ScoreRule:
    """The wanted convention if all of the runs have such a score, else the raw one; another until it is computed."""
    wanted = _wanted()
    if preparing is not None and preparing(wanted) is not None:
        return wanted
    if preparing is None and wanted != ScoreRule() and ordering(runs, wanted) is not None:
        shown = st.session_state.get(_SHOWN, ScoreRule())
        return shown if all(store.known_ranking(run, shown) is not None for run in runs) else ScoreRule()
    return wanted if all(loaders.why_not(run, wanted) is None for run in runs) else ScoreRule()


def ordering(runs: Sequence[Run], rule: ScoreRule) -> Work | None:
    """Putting some runs in order under a convention: what to follow, or None where they are."""

    def order(tell: Tell) -> None:
        for place, run in enumerate(runs):
            tell(place / len(runs), words)
            if loaders.why_not(run, rule) is None:
                loaders.ranking(run, rule)

    words = f"{rule_key(rule)}: the score of {plural(sum(map(scored, runs)), 'image')} is computed from stored rows"
    known = all(store.known_ranking(run, rule) is not None for run in runs)
    return begin(("order", rule), runs, order, words, known=known)


def _fit(run: Run) -> str:
    """What a run's Gaussian rests on, in words."""
    fit = loaders.gaussian(run)
    null_dim = int(run.meta["encoder"]["null_dim"])
    few = "fewer embeddings than dimensions: " if fit.samples <= fit.dim else ""
    flat = f", on a surface of {fit.dim - null_dim}" if null_dim else ""
    return (
        f"{md(dataset_name(run))} ({count(fit.samples)} embeddings, D = {fit.dim}{flat}; "
        f"{few}covariance shrunk by {significant(100 * fit.shrinkage, 2)} %)"
    )


def rule_key(rule: ScoreRule) -> str:
    """Name of a convention in the control and in the URL."""
    return next(name for name, known in RULES.items() if known == rule)


def classes_of(runs: Sequence[Run], rule: ScoreRule = RULES["Raw"]) -> list[str]:
    """Classes of the scored images of some runs, in the order of their datasets, without repeats."""
    names: dict[str, None] = {}
    for run in runs:
        names |= dict.fromkeys(name for name in loaders.ranking(run, rule).class_names if name)
    return list(names)
