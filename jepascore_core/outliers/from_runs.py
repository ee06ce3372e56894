"""Rows of stored runs, and which runs may be judged together."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.naming import distinct_names, encoder_name
from jepascore_core.outliers.fitting import MOST_ROWS
from jepascore_core.outliers.rows import Identities, OutlierError, Rows, identities_of, make_rows, sampled
from jepascore_core.store import Run, encoder_of
from jepascore_core.store.columns import PartsChangedError, of_parts
from jepascore_core.store.reading import Reading, from_reading

_WIDE = ("sphere_term", "singular_values", "embedding")
_AT_ONCE = 1 << 16  # keys


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
    return from_reading(run.path, lambda held: _rows(run, held, run.name if name is None else name, most, seed))


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


def _rows(run: Run, held: Reading, name: str, most: int | None, seed: int) -> Rows:
    """Rows of a run that is being read; see ``rows_of``."""
    kept = np.arange(len(held)) if most is None else sampled(_identities(run, held), most, seed)
    kept = kept[np.argsort(held.index[kept], kind="stable")]
    table = _wide(run, held, kept)
    terms = table["sphere_term"].to_numpy().astype(np.float64)
    spectra, embeddings = (_lists(run, table[column]) for column in ("singular_values", "embedding"))
    return make_rows(
        name,
        scores=held.stored.to_numpy()[kept],
        keys=np.array(held.keys.take(pa.array(kept)).to_pylist(), dtype=object),
        dataset=dataset_of(run),
        class_names=[held.class_names[code] for code in held.class_codes[kept].tolist()],
        embeddings=embeddings,
        spectra=spectra,
        sphere_terms=terms if np.isfinite(terms).any() else None,
        index=held.index[kept],
        null_dim=int(run.meta["encoder"]["null_dim"]),
        views=int(run.meta.get("views") or 1),
        encoder=" ".join(encoder_of(run)),
        total=len(held),
    )


def _identities(run: Run, held: Reading) -> Identities:
    """Which image each row of a reading is; not all keys at once, which take most memory as text."""
    pieces = [held.keys.slice(start, _AT_ONCE) for start in range(0, len(held), _AT_ONCE)]
    found = [identities_of(dataset_of(run), np.array(piece.to_pylist(), dtype=object)) for piece in pieces]
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def _wide(run: Run, held: Reading, kept: NDArray[np.int64]) -> pa.Table:
    """The wide columns of some rows of a reading, in their order.

    Raises:
        PartsChangedError: A part of the reading is gone, or proves damaged.
    """
    wanted = pa.array(held.index[kept])

    def some(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.is_in(rows["index"], value_set=wanted))

    made = of_parts(held.paths_of(kept), ("index", *_WIDE), some)
    if any(found is None for found in made):
        raise PartsChangedError(f"A part of {run.name} is damaged.")
    tables = [table for found in made for table in found or []]
    empty = pa.table({"index": wanted[:0]} | {column: pa.nulls(0) for column in _WIDE})
    whole = pa.concat_tables(tables) if tables else empty
    order = np.argsort(whole["index"].to_numpy(), kind="stable")
    return whole.take(pa.array(order))


def _lists(run: Run, column: pa.ChunkedArray) -> NDArray[np.float32] | None:
    """A column of lists as an array, (N, D); NaN in rows without one, None without any.

    Raises:
        OutlierError: The lists are of several lengths.
    """
    if pa.types.is_null(column.type):
        return None
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    lengths = set(np.unique(sizes).tolist()) - {0}
    if not lengths:
        return None
    if len(lengths) > 1:
        raise OutlierError(f"The rows of {run.name} hold lists of {min(lengths)} to {max(lengths)} numbers.")
    found = np.full((len(column), dim := int(lengths.pop())), np.nan, np.float32)
    found[sizes == dim] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    return found
