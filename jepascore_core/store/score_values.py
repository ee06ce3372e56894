"""The score of every image of a run under a rule, in the order of its reading.

Queries have ``rule.score_column`` for that, which is the same in SQL. Here lists become numbers part by part, an
order of magnitude sooner, and what is made of a part is kept: a run that grows is not read again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.store.columns import PartsChangedError, matrix, of_parts
from jepascore_core.store.gaussian import fitted_gaussian
from jepascore_core.store.parts import PartFile
from jepascore_core.store.reading import Reading
from jepascore_core.store.rule import ScoreRule, score_column, stored_eps
from jepascore_core.store.runs import Run
from jepascore_core.store.shelf import held_by, name_of, shelf

_FOLDS = 2  # 2² singular values are multiplied before their logarithm is taken: float64 holds that of any float32s
_MULTIPLIED = 1e-70, 1e38  # as long as eps lies between these


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """A number for every image of some parts, as in ``Reading``."""

    files: tuple[PartFile, ...]
    starts: NDArray[np.int64]
    values: pa.DoubleArray


def score_values(run: Run, rule: ScoreRule, held: Reading) -> pa.DoubleArray:
    """Scores of a run under a rule.

    Args:
        run: The run.
        rule: The convention.
        held: Its reading.

    Returns:
        Nats, (N,); null where an image has no score under the rule.

    Raises:
        PartsChangedError: A part of the reading is gone, or proves damaged.
        RunError: The run has no score under the rule, or cannot be read.
    """
    if score_column(run, rule) == "jepa_score":  # which also refuses what cannot be had
        return held.stored
    one_view = int(run.meta.get("views") or 1) == 1
    null_dim = 0 if rule.convention == "listing1" else int(run.meta["encoder"]["null_dim"])
    stored = one_view and rule.convention != "listing1" and rule.eps == stored_eps(run)
    volume = held.stored if stored else _volumes(run, held, null_dim, rule.eps)
    if rule.convention == "sphere":
        return pc.add(volume, _column(run, held, ("sphere",), ("sphere_term", "embedding"), _sphere_terms))
    return pc.add(volume, _log_density(run, held)) if rule.convention == "corrected" else volume


def _volumes(run: Run, held: Reading, null_dim: int, eps: float) -> pa.DoubleArray:
    """Σ log max(σ, eps) of every image, over all but its smallest σ."""
    name = ("volume", null_dim, eps)
    return _column(run, held, name, ("singular_values",), lambda spectra: _log_volumes(spectra, null_dim, eps))


def _column(
    run: Run, held: Reading, which: tuple[object, ...], columns: tuple[str, ...], make: Callable[..., pa.DoubleArray]
) -> pa.DoubleArray:
    """A number for every image, from some columns of the parts; kept by part.

    Raises:
        PartsChangedError: A part of the reading is gone, or proves damaged in these columns.
    """
    name = name_of("column", run.path, *which)
    last: _Column = shelf.last(name) or _Column((), np.zeros(1, np.int64), pa.array([], pa.float64()))
    spans = zip(last.files, last.starts[:-1].tolist(), last.starts[1:].tolist(), strict=True)
    kept = {file: last.values.slice(start, end - start) for file, start, end in spans}
    if last.files == held.files:
        return last.values
    new = [file for file in held.files if file not in kept]

    def numbers(rows: pa.Table) -> pa.DoubleArray:
        return make(*(rows[column].combine_chunks() for column in columns))

    made = of_parts([file.path for file in new], columns, numbers)
    for file, found in zip(new, made, strict=True):
        kept[file] = pa.concat_arrays(found or [pa.array([], pa.float64())])
    pieces = [kept[file] for file in held.files]
    if [len(piece) for piece in pieces] != np.diff(held.starts).tolist():
        raise PartsChangedError(f"The rows of {run.name} keep changing; ask again.")
    values = pa.concat_arrays(pieces or [pa.array([], pa.float64())])
    shelf.put(name, "", _Column(held.files, held.starts, values), held_by(values), dear=True)
    return values


def _log_volumes(spectra: pa.ListArray, null_dim: int, eps: float) -> pa.DoubleArray:
    """Σ log max(σ, eps) over all but the last ``null_dim`` of each list; null where nothing is left."""
    sigma = matrix(spectra)
    if sigma is None:
        return pa.array([_log_volume(each, null_dim, eps) for each in spectra], pa.float64())
    counted = sigma[:, : max(sigma.shape[1] - null_dim, 0)]
    if not counted.shape[1]:
        return pa.nulls(len(spectra), pa.float64())
    folds = _FOLDS if _MULTIPLIED[0] < eps < _MULTIPLIED[1] else 0
    return pa.array(_log_sums(np.maximum(counted, eps, dtype=np.float64), folds))


def _log_volume(spectrum: pa.ListScalar, null_dim: int, eps: float) -> float | None:
    """The same of one image, where lists differ in length."""
    values = np.array(spectrum.as_py() or [], np.float64)
    counted = values[: max(len(values) - null_dim, 0)]
    return float(np.log(np.maximum(counted, eps)).sum()) if len(counted) else None


def _log_sums(values: NDArray[np.float64], folds: int) -> NDArray[np.float64]:
    """Sum of logarithms along each row of (n, D), through products of 2^folds values."""
    half = values.shape[1] // 2
    if not folds or not half:
        return np.log(values).sum(axis=1)
    odd = np.log(values[:, 2 * half :]).sum(axis=1)  # of the last one, if any
    return odd + _log_sums(values[:, :half] * values[:, half : 2 * half], folds - 1)


def _sphere_terms(terms: pa.DoubleArray, embeddings: pa.ListArray) -> pa.DoubleArray:
    """What the sphere score adds, ``sphere_term`` − (D − 1) log‖z‖; null where z has no direction."""
    z = matrix(embeddings)
    if z is None:
        return pc.add(terms, pa.array([_minus_log_norm(each) for each in embeddings], pa.float64()))
    squares = np.einsum("ij,ij->i", z, z, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return pc.add(terms, pa.array(-(z.shape[1] - 1) / 2 * np.log(squares), mask=squares == 0))


def _minus_log_norm(embedding: pa.ListScalar) -> float | None:
    """−(D − 1) log‖z‖ of one embedding, where lists differ in length."""
    z = np.array(embedding.as_py() or [], np.float64)
    return float(-(len(z) - 1) * np.log(np.linalg.norm(z))) if z.any() else None


def _log_density(run: Run, held: Reading) -> pa.DoubleArray:
    """Log-density of every image's embedding; null where it has none."""
    table = fitted_gaussian(run).log_density
    index, density = table["index"].to_numpy(), table["log_density"].combine_chunks()
    if np.array_equal(index, held.index):
        return density
    rows = held.rows_of(index)
    found = np.full(len(held), -1)
    found[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    return density.take(pa.array(found, mask=found < 0))
