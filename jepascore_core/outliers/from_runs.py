"""Rows of stored runs, and which runs may be judged together."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jepascore_core.naming import distinct_names, encoder_name
from jepascore_core.outliers.fitting import MOST_ROWS
from jepascore_core.outliers.rows import OutlierError, Rows, identities_of, make_rows, sampled
from jepascore_core.store import Run, encoder_of
from jepascore_core.store.database import query_arrow


def rows_of(run: Run, *, name: str | None = None, most: int | None = MOST_ROWS, seed: int = 0) -> Rows:
    """Scored rows of a run, with whatever it holds of each.

    Args:
        run: The run.
        name: What the rows are called; None takes the run's name.
        most: Rows to read at most: a seeded sample of a larger run. None reads all.
        seed: Of the sample.

    Returns:
        The rows, by number in the run.

    Raises:
        RunError: The run cannot be read.
        OutlierError: Its rows are of several lengths D.
    """
    run.check()
    narrow = query_arrow(
        run.path,
        """SELECT index, "key", coalesce(class_name, '') AS class_name, jepa_score, sphere_term
        FROM rows WHERE jepa_score IS NOT NULL ORDER BY index""",
    )
    keys = np.array(narrow["key"].to_pylist(), dtype=object)
    kept = sampled(identities_of(dataset_of(run), keys), len(keys) if most is None else most, seed)
    table = narrow.take(pa.array(kept))
    index = table["index"].to_numpy()
    terms = table["sphere_term"].to_numpy().astype(np.float64)
    spectra, embeddings = (_lists(run, name_, index, len(keys)) for name_ in ("singular_values", "embedding"))
    return make_rows(
        run.name if name is None else name,
        scores=table["jepa_score"].to_numpy().astype(np.float64),
        keys=keys[kept],
        dataset=dataset_of(run),
        class_names=table["class_name"].to_pylist(),
        embeddings=embeddings,
        spectra=spectra,
        sphere_terms=terms if np.isfinite(terms).any() else None,
        index=index,
        null_dim=int(run.meta["encoder"]["null_dim"]),
        views=int(run.meta.get("views") or 1),
        encoder=" ".join(encoder_of(run)),
        total=len(keys),
    )


def rows_of_runs(inside: Run, others: Sequence[Run], *, most: int = MOST_ROWS, seed: int = 0) -> list[Rows]:
    """Rows of an in-distribution run and of others, of one encoder.

    Args:
        inside: The in-distribution run.
        others: The others.
        most: Rows of each to read at most.
        seed: Of the sample.

    Returns:
        Rows called by their runs' names, those of ``inside`` first.

    Raises:
        RunError: A run cannot be read.
        OutlierError: They are of several encoders, or a run is named twice.
    """
    runs = [inside, *others]
    for run in runs:
        run.check()
        if not same_encoder(inside, run):
            raise OutlierError(
                f"{inside.name} and {run.name} are of different encoders ({encoder_name(inside)}, "
                f"{encoder_name(run)}, or other weights or input size), whose values share no scale."
            )
    paths = [run.path.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise OutlierError("A run is named twice; in-distribution and other runs must be different ones.")
    names = [run.name for run in runs]
    called = names if len(set(names)) == len(names) else [str(path) for path in paths]
    return [rows_of(run, name=name, most=most, seed=seed) for run, name in zip(runs, called, strict=True)]


def same_encoder(one: Run, other: Run) -> bool:
    """Whether two runs are of the same weights, at the same input size, under the same null dimension."""
    return encoder_of(one) == encoder_of(other) and all(
        one.meta["encoder"].get(what) == other.meta["encoder"].get(what)
        for what in ("embedding_dim", "null_dim", *(() if encoder_of(one)[0] else ("id",)))
    )


def short_names(runs: Sequence[Run]) -> dict[str, str]:
    """A short distinct name for each of some runs of one encoder, by the run's name."""
    return distinct_names(runs)


def dataset_of(run: Run) -> str:
    """Which images a run is of: the dataset's fingerprint, or its id where it has none."""
    dataset = run.meta["dataset"]
    return str(dataset.get("fingerprint") or dataset["id"])


def _lists(run: Run, column: str, index: NDArray[np.int64], total: int) -> NDArray[np.float32] | None:
    """A column of lists as an array, (N, D) in the order of ``index``; NaN in rows without one, None without any.

    Raises:
        OutlierError: The lists are of several lengths.
    """
    where, values = f"jepa_score IS NOT NULL AND {column} IS NOT NULL", {}
    if len(index) < total:
        where, values = f"{where} AND index IN (SELECT unnest($wanted::BIGINT[]))", {"wanted": index.tolist()}
    table = query_arrow(run.path, f"SELECT index, {column} FROM rows WHERE {where}", **values)
    lengths = set(np.unique(pa.compute.list_value_length(table[column]).to_numpy()).tolist()) - {0}
    if not lengths:
        return None
    if len(lengths) > 1:
        raise OutlierError(f"The rows of {run.name} hold lists of {min(lengths)} to {max(lengths)} numbers.")
    dim = int(lengths.pop())
    found = np.full((len(index), dim), np.nan, np.float32)
    table = table.filter(pa.compute.equal(pa.compute.list_value_length(table[column]), dim))
    flat = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    found[np.searchsorted(index, table["index"].to_numpy())] = flat
    return found
