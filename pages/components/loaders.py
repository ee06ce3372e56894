"""Everything that a page reads, cached. A cache entry is as old as the run's folder, so that live runs stay live."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from jepascore_core import mapping, store, views
from jepascore_core.mapping import Points
from jepascore_core.store import Run, RunGaussian, ScoreRule
from jepascore_core.store.maps import MapRequest, RunMap

_MOST_DRAWN = 2048  # embeddings of a cloud
_MOST_VIEWED = 4096  # images that tell how views settle; their resampling takes a second


def version(run: Run) -> str:
    """What changes when a run's rows change: its number of parts and the newest one's time."""
    times = [part.stat().st_mtime_ns for part in run.path.glob("part-*.parquet")]
    return f"{len(times)}-{max(times, default=0)}"


def scores(run: Run, rule: ScoreRule, classes: Sequence[str] = ()) -> pd.DataFrame:
    """Scores of a run; see ``store.scores``."""
    return _scores(str(run.path), version(run), rule, tuple(classes))


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
    """Images at an end of a run, at random, or between two scores; see ``store.extremes``."""
    return _extremes(str(run.path), version(run), n, which, rule, class_name, seed, low, high)


def class_counts(run: Run) -> pd.DataFrame:
    """Images, failures and median of each class; see ``store.class_counts``."""
    return _class_counts(str(run.path), version(run))


def counts(run: Run) -> dict[str, int]:
    """Planned, done and failed; see ``store.counts``."""
    return _counts(str(run.path), version(run))


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


def run_map(runs: Sequence[Run], request: MapRequest) -> RunMap:
    """A map that is made while one waits; see ``mapping.make_map``."""
    return _run_map(tuple(str(run.path) for run in runs), tuple(version(run) for run in runs), request)


def map_points(runs: Sequence[Run], found: RunMap, rule: ScoreRule) -> Points:
    """The images of a map with their scores; see ``mapping.scored_points``. ``runs`` are those of the map, in order."""
    paths, versions = tuple(str(run.path) for run in runs), tuple(version(run) for run in runs)
    return _map_points(paths, versions, found.request, rule, found)


def brightness(run: Run, n: int = 400) -> NDArray[np.float64]:
    """Mean brightness (0..1) of up to n thumbnails: the simplest rival of the score."""
    return _brightness(str(run.path), version(run), n)


def row(run: Run, key: str) -> dict:
    """Every column of one image; see ``store.row``."""
    return store.row(run, key)


def median(run: Run, rule: ScoreRule | None = None) -> float:
    """Median score of a run, nats; NaN when it has none."""
    return float(scores(run, rule or ScoreRule())["score"].median())


@st.cache_data(max_entries=32, show_spinner=False)
def _scores(path: str, version: str, rule: ScoreRule, classes: tuple[str, ...]) -> pd.DataFrame:
    return store.scores(store.open_run(Path(path)), rule=rule, classes=classes or None)


@st.cache_data(max_entries=512, show_spinner=False)
def _extremes(
    path: str,
    version: str,
    n: int,
    which: str,
    rule: ScoreRule,
    class_name: str | None,
    seed: int,
    low: float | None,
    high: float | None,
) -> pd.DataFrame:
    run = store.open_run(Path(path))
    return store.extremes(run, n, which=which, class_name=class_name, rule=rule, seed=seed, low=low, high=high)


@st.cache_data(max_entries=64, show_spinner=False)
def _class_counts(path: str, version: str) -> pd.DataFrame:
    return store.class_counts(store.open_run(Path(path)))


@st.cache_data(max_entries=256, show_spinner=False)
def _counts(path: str, version: str) -> dict[str, int]:
    return store.counts(store.open_run(Path(path)))


@st.cache_data(max_entries=64, show_spinner=False)
def _failures(path: str, version: str) -> pd.DataFrame:
    return store.failures(store.open_run(Path(path)))


@st.cache_data(max_entries=128, show_spinner=False)
def _spectrum_band(path: str, version: str, class_name: str | None) -> pd.DataFrame:
    return store.spectrum_band(store.open_run(Path(path)), class_name)


@st.cache_data(max_entries=256, show_spinner="Fitting a Gaussian to the embeddings…")
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


@st.cache_data(max_entries=16, show_spinner="Projecting the embeddings…")
def _run_map(paths: tuple[str, ...], versions: tuple[str, ...], request: MapRequest) -> RunMap:
    return mapping.make_map(request)


@st.cache_data(max_entries=32, show_spinner=False)
def _map_points(
    paths: tuple[str, ...], versions: tuple[str, ...], request: MapRequest, rule: ScoreRule, _found: RunMap
) -> Points:
    rankings = [store.ranking(store.open_run(Path(path)), rule) for path in paths]
    return mapping.scored_points(_found, rankings, comparable=rule.convention != "corrected")


@st.cache_data(max_entries=64, show_spinner=False)
def _brightness(path: str, version: str, n: int) -> NDArray[np.float64]:
    from io import BytesIO

    from PIL import Image

    frame = store.extremes(store.open_run(Path(path)), n, which="random", seed=0)
    pictures = (Image.open(BytesIO(thumbnail)).convert("L") for thumbnail in frame["thumbnail"].dropna())
    return np.array([np.asarray(picture).mean() / 255 for picture in pictures])
