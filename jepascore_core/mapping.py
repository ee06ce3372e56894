"""Make a map of some runs: read their embeddings, project them, judge the map; then set scores on it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jepascore_core import projection, store
from jepascore_core.errors import RunError
from jepascore_core.files import expanded, why, written_aside
from jepascore_core.store import Ranking, Run
from jepascore_core.store.exports import disarmed
from jepascore_core.store.maps import MOST_IMAGES, MapRequest, RunMap

_AROUND = 24  # images around a clicked one


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The images of a map that have a score, in a seeded random order, so that no run hides another.

    Attributes:
        number: Place of each image in its map, (M,).
        codes: Place of its run in the map's runs, (M,).
        place: Its place in its run's ranking, (M,).
        xy: (M, 2).
        scores: Nats, (M,).
        percentiles: Share of images with a lower score, 0..100, (M,): of all runs together where their scores can be
            compared, else of its own run.
        class_codes: Place of its class in ``class_names``, (M,).
        class_names: Classes of all runs, in the order of their datasets; "" where images have none.
        keys: (M,).
    """

    number: NDArray[np.int64] = field(repr=False)
    codes: NDArray[np.int32] = field(repr=False)
    place: NDArray[np.int64] = field(repr=False)
    xy: NDArray[np.float32] = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)
    percentiles: NDArray[np.float64] = field(repr=False)
    class_codes: NDArray[np.int64] = field(repr=False)
    class_names: tuple[str, ...]
    keys: list[str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True, slots=True)
class Circled:
    """What a person chose on a map.

    Attributes:
        areas: x and y of the corners of each lasso, or of two opposite ones of each box.
        singles: Images that were clicked, by their place in the map.
    """

    areas: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()
    singles: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.areas or self.singles)


def make_map(request: MapRequest, runs_dir: str | Path | None = None) -> RunMap:
    """Project the embeddings of some runs of one encoder.

    Of many images a sample is taken, alike from each run: a run begins with a seeded, stratified one.

    Args:
        request: The map.
        runs_dir: Where runs lie.

    Returns:
        The map.

    Raises:
        RunError: The request cannot be, the runs have different encoders, or hold too few embeddings.
    """
    began = time.monotonic()
    request.check()
    runs = [store.open_run(name, runs_dir) for name in request.runs]
    _check_encoders(runs)
    taken = projection.shares([store.counts(run)["done"] for run in runs], MOST_IMAGES)
    codes, index, embeddings = _read(runs, taken)
    try:
        xy, share = _project(embeddings, request)
        judged = projection.trust(embeddings, xy, seed=request.seed)
    except ValueError as error:
        raise RunError(str(error)) from error
    return RunMap(
        request=request,
        codes=codes,
        index=index,
        xy=xy,
        dim=embeddings.shape[1],
        share=share,
        trust=judged,
        elapsed_s=time.monotonic() - began,
    )


def scored_points(found: RunMap, rankings: Sequence[Ranking], *, comparable: bool = True) -> Points:
    """Set the scores of some runs on their map.

    Args:
        found: The map.
        rankings: Ranking of each of its runs, in order, under one convention.
        comparable: Take percentiles among all runs; else of each run by itself.

    Returns:
        The images that have a score under that convention.
    """
    order = np.random.default_rng(0).permutation(len(found.index))
    codes, index = found.codes[order], found.index[order]
    place = np.full(len(order), -1, dtype=np.int64)
    for code, held in enumerate(rankings):
        mine = codes == code
        place[mine] = _places(held, index[mine])
    known = place >= 0
    order, codes, place = order[known], codes[known], place[known]
    names = tuple(dict.fromkeys(name for held in rankings for name in held.class_names))
    code_of = {name: code for code, name in enumerate(names)}
    scores, percentiles = np.zeros(len(order)), np.zeros(len(order))
    classes, keys = np.zeros(len(order), dtype=np.int64), np.empty(len(order), dtype=object)
    for code, held in enumerate(rankings):
        mine = codes == code
        scores[mine] = held.scores[place[mine]]
        percentiles[mine] = held.percentiles(place[mine])
        own = np.array([code_of[name] for name in held.class_names], dtype=np.int64)
        classes[mine] = own[held.codes_at(place[mine])] if len(own) else 0
        keys[mine] = held.keys_at(place[mine])
    if comparable and len(rankings) > 1:
        whole = sum(len(held) for held in rankings)
        percentiles = sum(
            (held.percentiles_of(scores) * len(held) / whole for held in rankings if len(held)), 0.0 * scores
        )
    return Points(order, codes, place, found.xy[order], scores, percentiles, classes, names, keys.tolist())


def circled(points: Points, chosen: Circled) -> NDArray[np.int64]:
    """Which images a choice means.

    Args:
        points: The images.
        chosen: The choice.

    Returns:
        Places in ``points``, (K,): what lies in any of the areas, and what was clicked; of a single click that image
        and the nearest ones on the map, 24 together, nearest first.
    """
    found = np.isin(points.number, chosen.singles)
    if not chosen.areas and len(chosen.singles) == 1 and found.any():
        apart = np.square(points.xy - points.xy[found][0]).sum(axis=1)
        return np.argsort(apart, kind="stable")[:_AROUND]
    for area in chosen.areas:
        corners = np.array(area, dtype=np.float64).T
        if len(corners) == 2:
            low, high = corners.min(axis=0), corners.max(axis=0)
            found |= ((points.xy >= low) & (points.xy <= high)).all(axis=1)
        else:
            found |= projection.inside(points.xy, corners)
    return np.flatnonzero(found)


def export_map(found: RunMap, path: str | Path, runs_dir: str | Path | None = None) -> int:
    """Write run, key, class, score and place of each image of a map to one file, whole or not at all.

    Args:
        found: The map.
        path: The file, ``.csv`` or ``.parquet``; replaced if it exists.
        runs_dir: Where runs lie.

    Returns:
        Number of rows written.

    Raises:
        RunError: The ending is unknown, or the file cannot be written.
    """
    path = expanded(path)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise RunError(f"Cannot write a map to {path.name!r}: the name must end in .csv or .parquet.")
    runs = [store.open_run(name, runs_dir) for name in found.request.runs]
    points = scored_points(found, [store.ranking(run) for run in runs])
    order = np.argsort(points.number)
    table = pa.table({
        "run": [runs[code].name for code in points.codes[order]],
        "key": [points.keys[place] for place in order],
        "class_name": [points.class_names[code] for code in points.class_codes[order]],
        "jepa_score": points.scores[order],
        "x": points.xy[order, 0],
        "y": points.xy[order, 1],
    })
    try:
        with written_aside(path) as aside:
            if path.suffix.lower() == ".csv":
                pa.csv.write_csv(disarmed(table), aside)
            else:
                pq.write_table(table, aside, compression="zstd")
    except OSError as error:
        raise RunError(f"Cannot write {path} ({why(error)}).") from error
    return len(table)


def _read(
    runs: Sequence[Run], taken: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
    """The first images of some runs whose embedding is finite: place of the run, number in it, embedding (N, D).

    Raises:
        RunError: There is none, or they differ in size.
    """
    held = [(code, *store.embedded(run, n)) for code, (run, n) in enumerate(zip(runs, taken, strict=True))]
    held = [(code, index, embeddings) for code, index, embeddings in held if embeddings.size]
    if len({embeddings.shape[1] for *_, embeddings in held}) != 1:
        raise RunError("The embeddings of these runs differ in size." if held else "These runs hold no embedding.")
    codes = np.concatenate([np.full(len(index), code, dtype=np.int32) for code, index, _ in held])
    index, embeddings = (np.concatenate([entry[place] for entry in held]) for place in (1, 2))
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.any():
        raise RunError("No embedding of these runs is finite.")
    return codes[finite], index[finite], embeddings[finite]


def _project(
    embeddings: NDArray[np.float32], request: MapRequest
) -> tuple[NDArray[np.float32], tuple[float, float] | None]:
    """Coordinates (N, 2), and the share of variance along each where that means something."""
    if request.projection == "pca":
        return projection.pca(embeddings)
    return projection.umap(embeddings, neighbours=request.neighbours, seed=request.seed), None


def _places(held: Ranking, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each image in a ranking by its number in the run; −1 where it has no score."""
    table = np.full(max(int(held.index.max(initial=-1)), int(index.max(initial=-1))) + 2, -1, dtype=np.int64)
    table[held.index] = np.arange(len(held))
    return table[index]


def _check_encoders(runs: Sequence[Run]) -> None:
    """Refuse runs that are of different encoders, or that cannot be read.

    Raises:
        RunError: In a sentence.
    """
    for run in runs:
        if run.problem:
            raise RunError(f"{run.name}: {run.problem}")
    if len({store.encoder_of(run) for run in runs}) > 1:
        raise RunError("Embeddings of different encoders share no space, so they share no map; map each encoder apart.")
