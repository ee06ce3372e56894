"""The store's face: run folders in, DataFrames out.

A run is a folder of Parquet parts beside ``run.json`` and ``progress.json``; DuckDB queries the
parts in memory. Where each thing lives: ``request`` what is asked for, ``runs`` the folders,
``parts`` the files, ``columns`` their numbers, ``progress`` how far, ``rule`` the conventions, ``gaussian`` what one
of them fits, ``reading`` what all orders of a run share, ``score_values`` what each adds, ``shelf`` what is kept in
memory of both, ``query``, ``nearest`` and ``rankings`` the questions, ``common`` those of several runs at once,
``tags`` named sets of images, ``exports`` the ways out as tables, ``verifying``, ``repairing`` and ``compacting`` what
keeps a run sound.
"""

from jepascore_core.store.common import Common, common_images, encoder_of, known_common, one_dataset, same_dataset
from jepascore_core.store.exports import export
from jepascore_core.store.gaussian import RunGaussian, fitted_gaussian
from jepascore_core.store.nearest import nearest
from jepascore_core.store.parts import FORMAT_VERSION, SCHEMA, stamp
from jepascore_core.store.progress import ACTIVE, STATES, Progress
from jepascore_core.store.query import (
    class_counts,
    counts,
    embedded,
    embeddings,
    extremes,
    failures,
    median,
    neighbours_of,
    percentile,
    row,
    scores,
    spectra,
    spectrum_band,
    view_scores,
)
from jepascore_core.store.rankings import Ranking, first_thumbnails, known_ranking, ranking, thumbnails
from jepascore_core.store.request import RunRequest, format_classes, split_classes
from jepascore_core.store.rule import CONVENTIONS, ScoreRule, is_given, why_not
from jepascore_core.store.runs import Run, list_runs, named_run, open_run, runs_home
from jepascore_core.store.tags import (
    Tag,
    add_tag,
    damaged_tags,
    delete_tag,
    list_tags,
    merge_tags,
    remove_from_tag,
    rename_tag,
    tag_name,
    tagged,
    tags_by_key,
    tags_version,
)

__all__ = [
    "ACTIVE",
    "CONVENTIONS",
    "FORMAT_VERSION",
    "SCHEMA",
    "STATES",
    "Common",
    "Progress",
    "Ranking",
    "Run",
    "RunGaussian",
    "RunRequest",
    "ScoreRule",
    "Tag",
    "add_tag",
    "class_counts",
    "common_images",
    "counts",
    "damaged_tags",
    "delete_tag",
    "embedded",
    "embeddings",
    "encoder_of",
    "export",
    "extremes",
    "failures",
    "first_thumbnails",
    "fitted_gaussian",
    "format_classes",
    "is_given",
    "known_common",
    "known_ranking",
    "list_runs",
    "list_tags",
    "median",
    "merge_tags",
    "named_run",
    "nearest",
    "neighbours_of",
    "one_dataset",
    "open_run",
    "percentile",
    "ranking",
    "remove_from_tag",
    "rename_tag",
    "row",
    "runs_home",
    "same_dataset",
    "scores",
    "spectra",
    "spectrum_band",
    "split_classes",
    "stamp",
    "tag_name",
    "tagged",
    "tags_by_key",
    "tags_version",
    "thumbnails",
    "view_scores",
    "why_not",
]
