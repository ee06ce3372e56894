"""What pages and commands ask of a run. Each question reads only the columns that it needs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.errors import RunError
from jepascore_core.store import parts
from jepascore_core.store.columns import PartsChangedError, matrix, of_parts
from jepascore_core.store.database import query, query_arrow
from jepascore_core.store.rankings import parts_of, ranking
from jepascore_core.store.reading import known_reading
from jepascore_core.store.rule import ScoreRule, columns_beside, score_column
from jepascore_core.store.runs import Run

DEFAULT = ScoreRule()
ENDS = ("least", "most", "random", "between")

_BAND_ROWS = 4096  # enough for the 5 % quantile of a spectrum, and 20 MB at D = 1280
_BAND_LEAST = 200  # images of a class for its band
_BAND_NUMBERS = 1 << 23  # σ that are read for it, where these hold so many images of the class: 0.1 s
_NARROW = 'index, "key", label, class_name'


def counts(run: Run) -> dict[str, int]:
    """How many images are planned, have a score, and have an error.

    Args:
        run: The run.

    Returns:
        ``planned``, ``done``, ``failed``.
    """
    done, failed = parts.count_rows(run.path)
    return {"planned": run.planned, "done": done, "failed": failed}


def class_counts(run: Run, *, rule: ScoreRule = DEFAULT) -> pd.DataFrame:
    """Images, failures and median score of each class.

    Args:
        run: The run.
        rule: Convention of the score.

    Returns:
        label, class_name, n (images with a score), failed, median (nats, NaN without a score); by label.
    """
    score = score_column(run, rule)
    return query(
        run.path,
        f"""SELECT label, class_name, count(jepa_score) AS n, count(error) AS failed, median({score}) AS median
        FROM rows GROUP BY label, class_name ORDER BY label, class_name""",
        beside=columns_beside(run, rule),
    )


def median(run: Run) -> float:
    """Median of the stored scores of a run, from memory where the run was read before; else that column is read alone.

    Args:
        run: The run.

    Returns:
        Nats; NaN without a score.
    """
    known = known_reading(run.path)
    if known is not None and len(known):
        return float(np.median(known.stored.to_numpy()))
    return float(query(run.path, "SELECT coalesce(median(jepa_score), 'nan') AS median FROM rows")["median"].iloc[0])


def scores(run: Run, *, rule: ScoreRule = DEFAULT, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """Every score of a run.

    Args:
        run: The run.
        rule: Convention of the score.
        classes: Class names to keep; None keeps all.

    Returns:
        index, key, label, class_name, score (nats), score_error (nats); images with a score only, by index.
    """
    if score_column(run, rule) != "jepa_score":  # to the last bit what other questions say under the rule
        held = ranking(run, rule)
        frame = held.rows(held.by_index()).drop(columns=["place", "percentile"])
        return frame if classes is None else frame[frame["class_name"].isin(list(classes))].reset_index(drop=True)
    where, values = _where(run, rule)
    if classes is not None:
        where += " AND class_name IN (SELECT unnest($classes))"
        values["classes"] = list(classes)
    return query(
        run.path, f"SELECT {_NARROW}, jepa_score AS score, score_error FROM rows WHERE {where} ORDER BY index", **values
    )


def extremes(
    run: Run,
    n: int,
    *,
    which: str = "least",
    class_name: str | None = None,
    rule: ScoreRule = DEFAULT,
    seed: int = 0,
    low: float | None = None,
    high: float | None = None,
    offset: int = 0,
) -> pd.DataFrame:
    """Images at an end of the scores, at random, or between two scores, with their thumbnails.

    Args:
        run: The run.
        n: Most images.
        which: ``least`` likely first, ``most`` likely first, ``random`` (seeded), or ``between`` ``low`` and
            ``high``, both included, from least to most likely.
        class_name: Keep one class; None keeps all.
        rule: Convention of the score.
        seed: Seed of ``random``.
        low: Least score of ``between``, nats; None leaves it open.
        high: Greatest score of ``between``, nats; None leaves it open.
        offset: Images to pass over, for paging.

    Returns:
        index, key, label, class_name, score, score_error, place (see ``Ranking``), percentile (0..100, among the kept
        class or all), width, height, thumbnail (JPEG bytes). Ties are broken by key.

    Raises:
        RunError: ``which`` is unknown.
    """
    if which not in ENDS:
        raise RunError(f"There is no end {which!r}; there are {', '.join(ENDS)}.")
    held = ranking(run, rule)
    names = [] if class_name is None else [class_name]
    places = held.places(names, low=low, high=high) if which == "between" else held.places(names)
    ordered = {"most": lambda: places[::-1], "random": lambda: held.shuffled(places, seed)}.get(which, lambda: places)()
    frame = held.rows(ordered[offset : offset + n], class_name)
    known = query(
        run.path,
        "SELECT index, width, height, thumbnail FROM rows WHERE index IN (SELECT unnest($wanted::BIGINT[]))",
        parts_of(run, frame["index"].tolist()),
        wanted=frame["index"].tolist(),
    )
    frame = frame.merge(known, on="index", how="left")
    frame["thumbnail"] = [bytes(jpeg) if isinstance(jpeg, bytes | bytearray) else None for jpeg in frame["thumbnail"]]
    return frame


def row(run: Run, key: str) -> dict[str, Any]:
    """Everything that is stored of one image.

    Args:
        run: The run.
        key: The image.

    Returns:
        Every column; lists as arrays, null as None.

    Raises:
        RunError: The run has no such image.
    """
    known = known_reading(run.path)
    at = None if known is None else known.row_of(key)
    if known is None or at is None:
        frame = query(run.path, 'SELECT * FROM rows WHERE "key" = $key LIMIT 1', key=key)
    else:  # one row group of one part
        sql = f'SELECT * FROM rows WHERE index = {int(known.index[at])} AND "key" = $key LIMIT 1'
        frame = query(run.path, sql, known.paths_of(np.array([at])), key=key)
    if frame.empty:
        raise RunError(f"{run.name} has no image {key!r}.")
    values = {str(name): _plain(value) for name, value in frame.iloc[0].items()}
    if values["thumbnail"] is not None:
        values["thumbnail"] = bytes(values["thumbnail"])
    return values


def neighbours_of(
    run: Run, key: str, step: int, *, class_name: str | None = None, rule: ScoreRule = DEFAULT
) -> str | None:
    """The image that stands some places further in the order of scores.

    Args:
        run: The run.
        key: Where to start; an image with a score.
        step: Places towards likelier images; negative towards stranger ones.
        class_name: Walk within one class; None walks through all.
        rule: Convention of the score.

    Returns:
        Key of that image, or None beyond an end.
    """
    held = ranking(run, rule)
    place = held.place_of(key)
    if place is None:
        return None
    places = held.places() if class_name is None else held.places([class_name])
    at = int(np.searchsorted(places, place)) + step
    return held.key(int(places[at])) if 0 <= at < len(places) and place in places else None


def percentile(run: Run, score: float, class_name: str | None = None, rule: ScoreRule = DEFAULT) -> float:
    """Where a score stands in a run.

    Args:
        run: The run.
        score: Nats.
        class_name: Compare within one class; None compares with all.
        rule: Convention of the run's scores.

    Returns:
        Share of images with a lower score, 0..100, equal ones counting half; NaN for a run without scores.
    """
    return float(ranking(run, rule).percentiles_of(np.array([score]), class_name)[0])


def spectra(
    run: Run, *, keys: Sequence[str] | None = None, class_name: str | None = None, limit: int | None = None
) -> tuple[list[str], NDArray[np.float32]]:
    """Singular values of many images.

    Args:
        run: The run.
        keys: The images, in the order wanted; those without a score are left out. None takes all.
        class_name: Keep one class.
        limit: Most images. A run begins with a stratified random sample, so the first ones are that.

    Returns:
        The keys, and the singular values (N, D), descending.
    """
    where, values = _where(run, DEFAULT, class_name)
    if keys is not None:
        where += ' AND "key" IN (SELECT unnest($keys))'
        values["keys"] = list(keys)
    if limit is not None:
        values["n"] = int(limit)
    table = query_arrow(
        run.path,
        f'SELECT "key", singular_values FROM rows WHERE {where} {"" if limit is None else "LIMIT $n"}',
        **values,
    )
    found = table["key"].to_pylist()
    if not found:
        return [], np.zeros((0, run.meta["encoder"]["embedding_dim"] if run.meta else 0), np.float32)
    stacked = table["singular_values"].combine_chunks().flatten().to_numpy().reshape(len(found), -1)  # (N, D)
    if keys is None:
        return found, stacked
    place = {key: number for number, key in enumerate(keys)}
    order = sorted(range(len(found)), key=lambda number: place[found[number]])
    return [found[number] for number in order], stacked[order]


def embeddings(run: Run, limit: int | None = None) -> NDArray[np.float32]:
    """Embeddings of many images; see ``embedded``.

    Args:
        run: The run.
        limit: Most images.

    Returns:
        (N, D); N is 0 where the run holds none.
    """
    return embedded(run, limit)[1]


def embedded(run: Run, limit: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Embeddings of many images, and which images they are.

    Args:
        run: The run.
        limit: Most images. A run begins with a stratified random sample, so the first ones are that.

    Returns:
        Number of each image in the run (N,), and the embeddings (N, D); N is 0 where the run holds none.
    """
    sql = "SELECT index, embedding FROM rows WHERE jepa_score IS NOT NULL AND embedding IS NOT NULL"
    values = {} if limit is None else {"n": int(limit)}
    table = query_arrow(run.path, sql + (" LIMIT $n" if values else ""), **values)
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    return table["index"].to_numpy(), flat.reshape(len(table), -1 if len(table) else 0)


def view_scores(run: Run, limit: int | None = None) -> tuple[list[str], NDArray[np.float64]]:
    """Scores of every view of many images.

    Args:
        run: A run of several views.
        limit: Most images. A run begins with a stratified random sample, so the first ones are that.

    Returns:
        The keys, and the scores (N, T), nats; view 0 is the plain image. Of a run of one view, no image.
    """
    sql = 'SELECT "key", view_scores FROM rows WHERE jepa_score IS NOT NULL AND view_scores IS NOT NULL'
    values = {} if limit is None else {"n": int(limit)}
    table = query_arrow(run.path, sql + (" LIMIT $n" if values else ""), **values)
    found = table["key"].to_pylist()
    flat = table["view_scores"].combine_chunks().flatten().to_numpy()
    return found, flat.reshape(len(found), -1 if found else 0).astype(np.float64)


def spectrum_band(run: Run, class_name: str | None = None) -> pd.DataFrame:
    """Median spectrum of a run, and the band that holds 90 % of its images.

    Args:
        run: The run.
        class_name: Keep one class.

    Returns:
        k (1..D), low, median, high: quantiles 5, 50 and 95 % of σ_k, over at most 4,096 images; of a class of a very
        large run over the first 200 at least.
    """
    values = None if class_name is None or not run.meta else _first_of_class(run, class_name)
    if values is None:
        _, values = spectra(run, class_name=class_name, limit=_BAND_ROWS)
    bands = np.quantile(values, [0.05, 0.5, 0.95], axis=0) if len(values) else np.full((3, values.shape[1]), np.nan)
    low, median, high = bands
    return pd.DataFrame({"k": np.arange(1, len(low) + 1), "low": low, "median": median, "high": high})


def _first_of_class(run: Run, class_name: str) -> NDArray[np.float32] | None:
    """Singular values of a class's first images, (n, D), by what memory knows of their rows; None where it does not."""
    known = known_reading(run.path)
    if known is None or class_name not in known.class_names:
        return None
    rows = np.flatnonzero(known.class_codes == known.class_names.index(class_name))[:_BAND_ROWS]
    within = max(_BAND_NUMBERS // max(int(run.meta["encoder"]["embedding_dim"]), 1), rows[:_BAND_LEAST][-1] + 1)
    rows = rows[rows < within]
    most = {file.path: int(rows[-1]) + 1 - int(first) for file, first in zip(known.files, known.starts, strict=False)}

    def of_class(read: pa.Table) -> NDArray[np.float32] | None:
        return matrix(read.filter(pc.equal(read["class_name"], class_name))["singular_values"].combine_chunks())

    try:
        made = of_parts(known.paths_of(rows), ["class_name", "singular_values"], of_class, most=most)
    except PartsChangedError:
        return None
    found = [values for part in made for values in part or () if values is not None]
    return np.concatenate(found)[: len(rows)] if len({values.shape[1] for values in found}) == 1 else None


def failures(run: Run) -> pd.DataFrame:
    """Images without a score.

    Args:
        run: The run.

    Returns:
        index, key, error (why); by index.
    """
    if not parts.count_rows(run.path)[1]:  # the footers say so: no need to read a million nulls
        return pd.DataFrame({"index": np.zeros(0, np.int64), "key": [], "error": []})
    return query(run.path, 'SELECT index, "key", error FROM rows WHERE error IS NOT NULL ORDER BY index')


def _where(run: Run, rule: ScoreRule, class_name: str | None = None) -> tuple[str, dict[str, object]]:
    """Condition of rows that have a score under a rule, of one class if asked."""
    score = score_column(run, rule)
    conditions = ["jepa_score IS NOT NULL", *([f"{score} IS NOT NULL"] if score != "jepa_score" else [])]
    if class_name is None:
        return " AND ".join(conditions), {}
    return " AND ".join([*conditions, "class_name = $class_name"]), {"class_name": class_name}


def _plain(value: Any) -> Any:
    """A cell without pandas' several kinds of null."""
    if isinstance(value, np.ndarray | list | bytes | bytearray):
        return value
    if pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value
