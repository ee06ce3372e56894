"""Everything that a page reads, cached. A cache entry is as old as the run's folder, so that live runs stay live."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from jepascore_core import comparison, curating, curation, mapping, outliers, sensitivity, store, views
from jepascore_core import readiness as assessing
from jepascore_core.agreement import Overlap
from jepascore_core.brightness import brightness as brightness_of
from jepascore_core.comparison import Pair
from jepascore_core.curating import Candidates, Searched
from jepascore_core.curation import Images, Trials
from jepascore_core.errors import RunError
from jepascore_core.mapping import Points
from jepascore_core.naming import distinct_names
from jepascore_core.outliers import Evaluation, Judged, OutlierError, Rows, Sweeps, method_named, rows_of
from jepascore_core.readiness import Readiness
from jepascore_core.sensitivity import experiments, facts
from jepascore_core.sensitivity.experiments import Dose
from jepascore_core.separation import Separation
from jepascore_core.separation import separation as measure
from jepascore_core.store import Common, Ranking, Run, RunGaussian, ScoreRule, Tag
from jepascore_core.store.maps import MapRequest, RunMap

_MOST_PICTURES = 20_000  # thumbnails in memory, about 100 MB
_MOST_DRAWN = 2048  # embeddings of a cloud
_MOST_VIEWED = 4096  # images that tell how views settle; their resampling takes a second

_pictures: dict[tuple[Path, int], bytes] = {}  # thumbnails by run and number, the oldest first
_turn = threading.Lock()

Asked = tuple[tuple[str, str], ...]  # path and version of each run


def version(run: Run) -> str:
    """What changes when a run's rows change."""
    return store.stamp(run.path)


def identity(runs: Sequence[Run]) -> Asked:
    """Path and version of some runs: what is the same as long as their rows are."""
    return tuple((str(run.path), version(run)) for run in runs)


def ranking(run: Run, rule: ScoreRule) -> Ranking:
    """Scores of a run in order; the store remembers them. See ``store.ranking``."""
    return store.ranking(run, rule)


def extremes(
    run: Run,
    n: int,
    which: str,
    rule: ScoreRule,
    class_name: str | None = None,
    seed: int = 0,
    low: float | None = None,
    high: float | None = None,
) -> pd.DataFrame:
    """Images at an end of a run, at random, or between two scores, with thumbnails.

    Args:
        run: The run.
        n: Most images.
        which: ``least`` likely first, ``most`` likely first, ``random``, or ``between``: least likely first.
        rule: Convention of the score.
        class_name: Keep one class, within which the percentile is taken.
        seed: Of ``random``.
        low: Least score, nats; None leaves it open.
        high: Greatest score, nats.

    Returns:
        As ``Ranking.rows``, and ``thumbnail`` (JPEG bytes or None).
    """
    held = ranking(run, rule)
    places = held.places([] if class_name is None else [class_name], low=low, high=high)
    if which == "random":
        places = held.shuffled(places, seed)
    return with_thumbnails(run, held.rows((places[::-1] if which == "most" else places)[:n], class_name))


def with_thumbnails(run: Run, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a ranking with their pictures."""
    pictures = thumbnails(run, rows["index"].tolist())
    return rows.assign(
        thumbnail=pd.Series([pictures.get(number) for number in rows["index"]], rows.index, dtype=object)
    )


def thumbnails(run: Run, index: Sequence[int]) -> dict[int, bytes]:
    """Thumbnails by number in the run; those shown lately are in memory. See ``store.thumbnails``."""
    found = {number: jpeg for number in index if (jpeg := _pictures.get((run.path, number))) is not None}
    missing = store.thumbnails(run, [number for number in index if number not in found])
    with _turn:
        _pictures.update({(run.path, number): jpeg for number, jpeg in missing.items()})
        for oldest in list(_pictures)[: max(0, len(_pictures) - _MOST_PICTURES)]:
            del _pictures[oldest]
    return found | missing


def separation(names: tuple[object, ...], reference: NDArray[np.float64], other: NDArray[np.float64]) -> Separation:
    """How two sets of scores lie apart; ``names`` say which they are, and of which version. See ``separation``."""
    return _separation(names, reference, other)


def tags(run: Run) -> list[Tag]:
    """Tags of a run, by name; see ``store.list_tags``."""
    return _tags(str(run.path), store.tags_version(run))


def classes(run: Run) -> pd.DataFrame:
    """Each class with its number of scored images; see ``Ranking.classes``."""
    return ranking(run, ScoreRule()).classes()


def counts(run: Run) -> dict[str, int]:
    """Planned, done and failed; the store remembers. See ``store.counts``."""
    return store.counts(run)


def failures(run: Run) -> pd.DataFrame:
    """Images without a score and why; see ``store.failures``."""
    return _failures(str(run.path), version(run))


def spectrum_band(run: Run, class_name: str | None = None) -> pd.DataFrame:
    """Median and 5–95 % band of each singular value; see ``store.spectrum_band``."""
    return _spectrum_band(str(run.path), version(run), class_name)


def why_not(run: Run, rule: ScoreRule) -> str | None:
    """Why a run has no score under a rule, or None; see ``store.why_not``."""
    return None if rule == ScoreRule() else _why_not(str(run.path), version(run), rule)


def gaussian(run: Run) -> RunGaussian:
    """The Gaussian of the corrected score; the store remembers it. See ``store.fitted_gaussian``."""
    return store.fitted_gaussian(run)


def embeddings(run: Run) -> NDArray[np.float32]:
    """Embeddings of a run's first images; see ``store.embeddings``."""
    return _embeddings(str(run.path), version(run))


def view_scores(run: Run) -> tuple[list[str], NDArray[np.float64]]:
    """Scores of every view of a run's first images; see ``store.view_scores``."""
    return _view_scores(str(run.path), version(run))


def settling(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How a run's estimates and its ranking settle; see ``views.settling`` and ``views.ranking``."""
    return _settling(str(run.path), version(run))


def common(runs: Sequence[Run], rule: ScoreRule, classes: Sequence[str] = ()) -> Common:
    """Images that some runs share, of some classes or of all; the store remembers. See ``store.common_images``."""
    return _common(identity(runs), rule, tuple(classes))


def correlations(runs: Sequence[Run], common: Common, rule: ScoreRule, first: int, second: int) -> Pair:
    """Rank correlations of two of some runs over common images; see ``comparison.correlations``."""
    first, second = _either_way(runs, first, second)
    asked = identity([runs[first], runs[second]])
    return _correlations(asked, rule, common.images, common, first, second)


def shared(runs: Sequence[Run], common: Common, rule: ScoreRule, first: int, second: int, n: int) -> Overlap:
    """Overlap of the extremes of two of some runs over common images; see ``comparison.shared``."""
    first, second = _either_way(runs, first, second)
    return _shared(identity([runs[first], runs[second]]), rule, common.images, n, common, first, second)


def run_map(runs: Sequence[Run], request: MapRequest) -> RunMap:
    """A map that is made while one waits; see ``mapping.make_map``."""
    return _run_map(identity(runs), request)


def map_points(runs: Sequence[Run], found: RunMap, rule: ScoreRule) -> Points:
    """The images of a map with their scores; see ``mapping.scored_points``. ``runs`` are those of the map, in order."""
    return _map_points(identity(runs), found.request, rule, found)


def outlier_evaluation(
    runs: Sequence[Run], drop_top: float, on_method: Callable[[int, int, str], None] | None = None
) -> Evaluation:
    """Every method that tells other runs from an in-distribution one; see ``outliers.evaluate``.

    Methods are judged and remembered one by one.

    Args:
        runs: The in-distribution run, then the others; of one encoder.
        drop_top: Of the tail score, %.
        on_method: Called with methods done, methods in all and the title of the next.

    Returns:
        What was found; its rows, called by short names, hold no wide arrays any more.

    Raises:
        OutlierError: The runs cannot be compared.
    """
    asked = identity(runs)
    able, left_out = _outlier_methods(asked)
    judged: dict[str, Judged] = {}
    reasons = dict(left_out)
    for number, name in enumerate(able):
        method = outliers.method_named(name)
        if on_method is not None:
            on_method(number, len(able), method.title)
        found = _outlier_values(asked, name, drop_top if method.drop_top is not None else None)
        if isinstance(found, Judged):
            judged[name] = found
        else:
            reasons[method.title] = found
    return _outlier_evaluation(asked, drop_top, judged, reasons)


def outlier_sweeps(inside: Run, other: Run) -> Sweeps:
    """Where in the spectrum the signal lies; see ``outliers.sweeps``."""
    return _outlier_sweeps(identity([inside, other]))


def searched(run: Run, near: float | None) -> Searched:
    """Embeddings of a run and their duplicates; see ``curating.search``."""
    return _searched(str(run.path), version(run), near)


def candidates(run: Run, by: str, near: float | None) -> Candidates:
    """Images that can be chosen by a score; see ``curating.candidates``."""
    return _candidates(str(run.path), version(run), by, near)


def trials(
    run: Run,
    by: str,
    near: float | None,
    rules: Sequence[str],
    fractions: Sequence[float],
    seeds: int,
    keep_duplicates: bool,
    on_split: Callable[[int, int], None] | None = None,
) -> Trials:
    """What choosing by a score is worth; see ``curating.measure``. Splits are kept one by one."""
    asked = str(run.path), version(run), by, near, tuple(rules), tuple(fractions), keep_duplicates
    tables = []
    for seed in range(seeds):
        if on_split is not None:
            on_split(seed, seeds)
        tables.append(_split(asked, seed))
    return _trials(asked, seeds, tables)


def selected(
    run: Run, by: str, near: float | None, rule: str, share: float, keep_duplicates: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What a rule keeps of ``candidates``, and what it leaves out, by score; see ``curating.selected``."""
    return _selected(str(run.path), version(run), by, near, rule, share, keep_duplicates)


def readiness(domain: Run, references: Sequence[Run], rule: ScoreRule) -> Readiness:
    """An encoder in a domain beside reference runs; see ``readiness.assess``."""
    return _readiness(identity([domain, *references]), rule)


def brightness(run: Run, n: int = 400) -> NDArray[np.float64]:
    """Mean brightness (0..1) of a run's first n thumbnails: the simplest rival of the score."""
    return _brightness(str(run.path), version(run), n)


def doses(run: Run, found: Mapping[Dose, Run], methods: Sequence[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Dose-response of a clean run and its corrupted ones, a line each; see ``sensitivity.dose_response``."""
    names = tuple(methods)
    asked = tuple((dose, *identity([other])[0]) for dose, other in found.items())
    return _doses(str(run.path), version(run), asked, names)


def left_out_classes(
    run: Run, methods: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str], tuple[str, ...]]:
    """Findings, means, what is not possible and notes of leaving one class out; see ``sensitivity.leave_one_out``."""
    return _left_out_classes(str(run.path), version(run), tuple(methods))


def label_noise(run: Run) -> tuple[pd.DataFrame, dict[str, str]]:
    """Findings of label noise, a line each; see ``sensitivity.label_noise``."""
    return _label_noise(str(run.path), version(run))


def layer_ids(encoder_id: str) -> list[str]:
    """Ids of the layers of an encoder; see ``encoders.load.list_layers``."""
    return _layer_ids(encoder_id)


def over_depth(
    inside: Mapping[int, Run], other: Mapping[int, Run], methods: Sequence[str], *, paired: bool
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Findings layer by layer, a line each; see ``sensitivity.over_depth``."""
    both = [layer for layer in inside if layer in other]
    asked = tuple((layer, identity([inside[layer], other[layer]])) for layer in both)
    return _over_depth(asked, tuple(methods), paired)


def row(run: Run, key: str) -> dict:
    """Every column of one image; see ``store.row``."""
    return store.row(run, key)


def nearest(run: Run, key: str, n: int, among: int) -> pd.DataFrame:
    """Images with the nearest embeddings; see ``store.nearest``."""
    return _nearest(str(run.path), version(run), key, n, among)


def median(run: Run) -> float:
    """Median score of a run, nats; NaN when it has none. See ``store.median``."""
    return _median(str(run.path), version(run))


@st.cache_data(max_entries=64, show_spinner=False)
def _tags(path: str, version: str) -> list[Tag]:
    return store.list_tags(store.open_run(Path(path)))


@st.cache_data(max_entries=1024, show_spinner=False)
def _separation(names: tuple[object, ...], _a: NDArray[np.float64], _b: NDArray[np.float64]) -> Separation:
    return measure(_a, _b)


@st.cache_data(max_entries=512, show_spinner=False)
def _median(path: str, version: str) -> float:
    return store.median(store.open_run(Path(path)))


@st.cache_data(max_entries=256, show_spinner="Comparing embeddings…")
def _nearest(path: str, version: str, key: str, n: int, among: int) -> pd.DataFrame:
    return store.nearest(store.open_run(Path(path)), key, n, among=among)


@st.cache_data(max_entries=64, show_spinner=False)
def _failures(path: str, version: str) -> pd.DataFrame:
    return store.failures(store.open_run(Path(path)))


@st.cache_data(max_entries=128, show_spinner=False)
def _spectrum_band(path: str, version: str, class_name: str | None) -> pd.DataFrame:
    return store.spectrum_band(store.open_run(Path(path)), class_name)


@st.cache_data(max_entries=256, show_spinner=False)
def _why_not(path: str, version: str, rule: ScoreRule) -> str | None:
    return store.why_not(store.open_run(Path(path)), rule)


@st.cache_data(max_entries=16, show_spinner=False)
def _embeddings(path: str, version: str) -> NDArray[np.float32]:
    return store.embeddings(store.open_run(Path(path)), limit=_MOST_DRAWN)


@st.cache_data(max_entries=16, show_spinner=False)
def _view_scores(path: str, version: str) -> tuple[list[str], NDArray[np.float64]]:
    return store.view_scores(store.open_run(Path(path)), limit=_MOST_VIEWED)


@st.cache_data(max_entries=64, show_spinner="Resampling…")
def _settling(path: str, version: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    _, scores = _view_scores(path, version)
    return views.settling(scores), views.ranking(scores)


def _either_way(runs: Sequence[Run], first: int, second: int) -> tuple[int, int]:
    """Two of some runs in an order that does not depend on which is named first, as what is asked of them."""
    first, second = sorted((first, second), key=lambda number: str(runs[number].path))
    return first, second


@st.cache_resource(max_entries=1, show_spinner=False)  # the store remembers more of them
def _common(asked: Asked, rule: ScoreRule, classes: tuple[str, ...]) -> Common:
    return store.common_images([store.open_run(Path(path)) for path, _ in asked], rule, classes)


@st.cache_data(max_entries=256, show_spinner=False)
def _correlations(asked: Asked, rule: ScoreRule, images: str, _common: Common, _first: int, _second: int) -> Pair:
    return comparison.correlations(_common, _first, _second)


@st.cache_resource(max_entries=256, show_spinner=False)
def _shared(asked: Asked, rule: ScoreRule, images: str, n: int, _common: Common, _first: int, _second: int) -> Overlap:
    return comparison.shared(_common, _first, _second, n)


@st.cache_data(max_entries=16, show_spinner="Projecting the embeddings…")
def _run_map(asked: Asked, request: MapRequest) -> RunMap:
    return mapping.make_map(request)


@st.cache_data(max_entries=32, show_spinner=False)
def _map_points(asked: Asked, request: MapRequest, rule: ScoreRule, _found: RunMap) -> Points:
    rankings = [store.ranking(store.open_run(Path(path)), rule) for path, _ in asked]
    return mapping.scored_points(_found, rankings, comparable=rule.convention != "corrected")


@st.cache_data(max_entries=64, show_spinner=False)
def _doses(
    path: str, version: str, asked: tuple[tuple[Dose, str, str], ...], methods: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[str, str]]:
    run = store.open_run(Path(path))
    clean, corrupted = experiments.paired_rows(run, {dose: store.open_run(Path(other)) for dose, other, _ in asked})
    found, left_out = sensitivity.dose_response(clean, corrupted, wanted=[method_named(name) for name in methods])
    return pd.DataFrame(facts.dose_facts(found)), left_out


@st.cache_resource(max_entries=2, show_spinner=False)
def _sensitivity_rows(path: str, version: str) -> Rows:
    return rows_of(store.open_run(Path(path)), most=experiments.MOST_ROWS)


@st.cache_data(max_entries=32, show_spinner=False)
def _left_out_classes(
    path: str, version: str, methods: tuple[str, ...]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str], tuple[str, ...]]:
    rows = _sensitivity_rows(path, version)
    found = sensitivity.leave_one_out(rows, wanted=[method_named(name) for name in methods])
    return pd.DataFrame(facts.class_facts(found)), pd.DataFrame(facts.macro_facts(found)), found.left_out, found.notes


@st.cache_data(max_entries=32, show_spinner=False)
def _label_noise(path: str, version: str) -> tuple[pd.DataFrame, dict[str, str]]:
    found, left_out = sensitivity.label_noise(_sensitivity_rows(path, version))
    return pd.DataFrame(facts.label_facts(found)), left_out


@st.cache_data(max_entries=64, show_spinner=False)
def _layer_ids(encoder_id: str) -> list[str]:
    from jepascore_core.encoders.load import list_layers  # comes with torch

    return [identifier for identifier, _ in list_layers(encoder_id)]


@st.cache_data(max_entries=32, show_spinner=False)
def _over_depth(
    asked: tuple[tuple[int, Asked], ...], methods: tuple[str, ...], paired: bool
) -> tuple[pd.DataFrame, dict[str, str]]:
    sides = [{layer: store.open_run(Path(runs[side][0])) for layer, runs in asked} for side in (0, 1)]
    rows = experiments.layer_rows(sides[0], sides[1])
    found, left_out = sensitivity.over_depth(rows, paired=paired, wanted=[method_named(name) for name in methods])
    return pd.DataFrame(facts.layer_facts(found)), left_out


@st.cache_data(max_entries=64, show_spinner=False)
def _brightness(path: str, version: str, n: int) -> NDArray[np.float64]:
    return brightness_of(store.open_run(Path(path)), n)


@st.cache_resource(max_entries=5, show_spinner=False)
def _outlier_rows(path: str, version: str) -> Rows:
    return outliers.rows_of(store.open_run(Path(path)))


def _outlier_sets(asked: Asked) -> list[Rows]:
    """Rows of an in-distribution run and of others, under short names."""
    runs = [store.open_run(Path(path)) for path, _ in asked]
    names = distinct_names(runs)
    sets = [_outlier_rows(*each).with_name(names[run.name]) for run, each in zip(runs, asked, strict=True)]
    outliers.check(sets[0], sets[1:])
    return sets


@st.cache_resource(max_entries=64, show_spinner=False)
def _outlier_methods(asked: Asked) -> tuple[list[str], dict[str, str]]:
    able, left_out = outliers.possible(outliers.methods(), _outlier_sets(asked))
    return [method.name for method in able], left_out


@st.cache_resource(max_entries=256, show_spinner=False)
def _outlier_values(asked: Asked, name: str, drop_top: float | None) -> Judged | str:
    inside, *others = _outlier_sets(asked)
    method = outliers.method_named(name, drop_top=outliers.DROP_TOP if drop_top is None else drop_top)
    try:
        return outliers.cross_fit(method, inside, others)
    except OutlierError as error:
        return outliers.reason(method, error)


@st.cache_resource(max_entries=16, show_spinner=False)
def _outlier_evaluation(
    asked: Asked, drop_top: float, _judged: dict[str, Judged], _left_out: dict[str, str]
) -> Evaluation:
    inside, *others = (rows.light() for rows in _outlier_sets(asked))
    return outliers.concluded(inside, others, _judged, _left_out)


@st.cache_resource(max_entries=32, show_spinner=False)
def _outlier_sweeps(asked: Asked) -> Sweeps:
    inside, other = _outlier_sets(asked)
    return outliers.sweeps(inside, other)


@st.cache_resource(max_entries=3, show_spinner=False)
def _searched(path: str, version: str, near: float | None) -> Searched:
    return curating.search(store.open_run(Path(path)), near=near)


@st.cache_resource(max_entries=2, show_spinner=False)
def _candidates(path: str, version: str, by: str, near: float | None) -> Candidates:
    return curating.candidates(store.open_run(Path(path)), by, _searched(path, version, near))


@st.cache_resource(max_entries=4, show_spinner=False)
def _measured_images(path: str, version: str, by: str, near: float | None) -> Images:
    return curating.measured_images(_candidates(path, version, by, near), _searched(path, version, near))


# path and version of a run, score, similarity of near-duplicates; rules, shares, whether duplicates take part
Measured = tuple[str, str, str, float | None, tuple[str, ...], tuple[float, ...], bool]


@st.cache_data(max_entries=2000, show_spinner=False)
def _split(asked: Measured, seed: int) -> NDArray[np.float64]:
    path, version, by, near, rules, fractions, keep_duplicates = asked
    try:
        return curation.run_split(
            _measured_images(path, version, by, near),
            seed,
            rules=rules,
            fractions=fractions,
            keep_duplicates=keep_duplicates,
        )
    except ValueError as error:
        raise RunError(str(error)) from error


@st.cache_resource(max_entries=64, show_spinner=False)
def _trials(asked: Measured, seeds: int, _tables: list[NDArray[np.float64]]) -> Trials:
    path, version, by, near, rules, fractions, keep_duplicates = asked
    return curation.summarise(
        _measured_images(path, version, by, near),
        _tables,
        rules=rules,
        fractions=fractions,
        keep_duplicates=keep_duplicates,
    )


@st.cache_resource(max_entries=2, show_spinner=False)
def _selected(
    path: str, version: str, by: str, near: float | None, rule: str, share: float, keep_duplicates: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    among = _candidates(path, version, by, near)
    taken = np.zeros(len(among), dtype=bool)
    taken[curating.selected(among, rule, share, keep_duplicates=keep_duplicates)] = True
    ordered = among.ascending()
    return ordered[taken[ordered]], ordered[~taken[ordered]]


@st.cache_data(max_entries=64, show_spinner=False)
def _readiness(asked: Asked, rule: ScoreRule) -> Readiness:
    domain, *references = (store.open_run(Path(path)) for path, _ in asked)
    return assessing.assess(domain, references, rule)
