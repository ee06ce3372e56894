"""The store's face: run folders in, DataFrames out.

A run is a folder of Parquet parts beside ``run.json`` and ``progress.json``; DuckDB queries the
parts in memory. Where each thing lives: ``request`` what is asked for, ``runs`` the folders,
``parts`` the files, ``progress`` how far, ``rule`` the conventions, ``gaussian`` what one of them fits,
``query`` and ``rankings`` the questions, ``exports`` the ways out.
"""

from jepascore_core.store.exports import export
from jepascore_core.store.gaussian import RunGaussian, fitted_gaussian
from jepascore_core.store.parts import FORMAT_VERSION, SCHEMA
from jepascore_core.store.progress import ACTIVE, STATES, Progress
from jepascore_core.store.query import (
    class_counts,
    counts,
    embedded,
    embeddings,
    extremes,
    failures,
    neighbours_of,
    percentile,
    row,
    scores,
    spectra,
    spectrum_band,
    view_scores,
)
from jepascore_core.store.rankings import Ranking, ranking, thumbnails
from jepascore_core.store.request import RunRequest, format_classes, split_classes
from jepascore_core.store.rule import CONVENTIONS, ScoreRule, why_not
from jepascore_core.store.runs import Run, list_runs, open_run, runs_home

__all__ = [
    "ACTIVE",
    "CONVENTIONS",
    "FORMAT_VERSION",
    "SCHEMA",
    "STATES",
    "Progress",
    "Ranking",
    "Run",
    "RunGaussian",
    "RunRequest",
    "ScoreRule",
    "class_counts",
    "counts",
    "embedded",
    "embeddings",
    "export",
    "extremes",
    "failures",
    "fitted_gaussian",
    "format_classes",
    "list_runs",
    "neighbours_of",
    "open_run",
    "percentile",
    "ranking",
    "row",
    "runs_home",
    "scores",
    "spectra",
    "spectrum_band",
    "split_classes",
    "thumbnails",
    "view_scores",
    "why_not",
]
