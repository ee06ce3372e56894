"""Images whose embeddings point most nearly the same way."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.store import parts
from jepascore_core.store.columns import matrix, of_parts, patiently
from jepascore_core.store.database import query_arrow
from jepascore_core.store.reading import parts_with
from jepascore_core.store.runs import Run


def nearest(run: Run, key: str, n: int, *, among: int | None = None) -> pd.DataFrame:
    """Images whose embeddings point most nearly the same way.

    Args:
        run: The run.
        key: The image to start from.
        n: Most images.
        among: Look at this many images only. A run begins with a stratified random sample, so the first ones are that.

    Returns:
        index, key, similarity (cosine, −1..1), by similarity; without the image itself, and without images that hold
        no score or whose embedding has no direction. Empty where the image holds no embedding.
    """
    own = query_arrow(
        run.path,
        'SELECT embedding FROM rows WHERE "key" = $key AND embedding IS NOT NULL LIMIT 1',
        parts_with(run.path, key),
        key=key,
    )["embedding"].to_pylist()
    towards = np.array(own[0] if own else [], np.float64)
    found: list[pa.Table] = []
    if np.linalg.norm(towards) > 0:
        found = patiently(lambda: _first_alike(run, towards, key, n, among))
    if not found:
        return pd.DataFrame({"index": np.zeros(0, np.int64), "key": np.zeros(0, object), "similarity": np.zeros(0)})
    table = pa.concat_tables(found).sort_by([("similarity", "descending"), ("key", "ascending")])
    return table.slice(0, n).to_pandas()


def _first_alike(run: Run, towards: NDArray[np.float64], key: str, n: int, among: int | None) -> list[pa.Table]:
    """The nearest among the first images, of each stretch of them."""
    shares = parts.first_rows(run.path, among)
    columns = ["index", "key", "embedding"]
    made = of_parts(list(shares), columns, lambda rows: _alike(rows, towards, key, n), most=shares)
    return [each for part in made for each in part or ()]


def _alike(rows: pa.Table, towards: NDArray[np.float64], key: str, n: int) -> pa.Table:
    """The nearest of some rows; more than n where the last are equally near."""
    column = rows["embedding"].combine_chunks()
    fits = pc.fill_null(pc.equal(pc.list_value_length(column), len(towards)), False)
    rows = rows.filter(pc.and_(fits, pc.fill_null(pc.not_equal(rows["key"], key), False)))
    z = matrix(rows["embedding"].combine_chunks())
    z = np.zeros((0, len(towards)), np.float32) if z is None else z
    with np.errstate(divide="ignore", invalid="ignore"):
        near = z @ towards.astype(np.float32) / np.linalg.norm(towards)
        similarity = (near / np.sqrt(np.einsum("ij,ij->i", z, z))).clip(-1, 1)
    chosen = np.flatnonzero(np.isfinite(similarity))
    if len(chosen) > n > 0:
        chosen = chosen[similarity[chosen] >= np.partition(similarity[chosen], -n)[-n]]
    found = rows.select(["index", "key"]).take(pa.array(chosen))
    return found.append_column("similarity", pa.array(similarity[chosen]))
