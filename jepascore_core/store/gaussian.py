"""A Gaussian fitted to the embeddings of a run, and each row's log-density under it: what ``corrected`` adds."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jepascore_core.errors import RunError
from jepascore_core.store import parts
from jepascore_core.store.columns import of_parts, patiently
from jepascore_core.store.reading import known_reading
from jepascore_core.store.release import release
from jepascore_core.store.runs import Run
from jepascore_core.store.shelf import held_by, name_of, shelf

_FIT_NUMBERS = 1 << 24  # N·D that are fitted: 44,000 images at D = 384, 13,000 at 1280, ten for each dimension
_TOGETHER = 8  # parts that are read at a time, on two threads

Embedded = tuple[NDArray[np.int64], NDArray[np.float32]]  # row numbers (n,) and embeddings (n, D)


@dataclass(frozen=True, slots=True)
class RunGaussian:
    """The Gaussian of a run.

    Attributes:
        samples: Embeddings that it was fitted to: all, or the first ones of a very large run, which are a
            stratified sample.
        dim: D.
        shrinkage: Share of the covariance that was replaced by a multiple of the identity, 0 to 1.
        log_density: Columns ``index`` and ``log_density`` (nats), for every row that has an embedding.
    """

    samples: int
    dim: int
    shrinkage: float
    log_density: pa.Table = field(repr=False)


def fitted_gaussian(run: Run) -> RunGaussian:
    """Fit a Gaussian to a run's embeddings; remembered in memory until the run's parts change.

    Args:
        run: The run.

    Returns:
        The Gaussian and its log-densities; see ``density.fit_gaussian`` for the shrinkage.

    Raises:
        RunError: The run holds fewer than two embeddings, or they do not vary.
    """
    stamp, name = parts.stamp(run.path), name_of("gaussian", run.path)
    with _making:
        held = shelf.get(name, stamp)
        if held is None:
            held = _fit_or_why(run.path)
            columns = () if isinstance(held, str) else (column.chunk(0) for column in held.log_density.columns)
            shelf.put(name, stamp, held, held_by(*columns), dear=True)
    if isinstance(held, str):
        raise RunError(f"The corrected score is not available for {run.label}. {held}")
    return held


_making = threading.Lock()


def _fit_or_why(folder: Path) -> RunGaussian | str:
    """The Gaussian, or why there is none."""
    try:
        return patiently(lambda: _fit(folder))
    except ValueError as error:  # from the fit; jepascore errors pass
        return str(error)


def _fit(folder: Path) -> RunGaussian:
    """Fit to the first embeddings; take the log-density of all, a batch at a time.

    Raises:
        ValueError: There is nothing to fit to.
    """
    import torch  # the store does without it but for this

    from jepascore_core.density import fit_gaussian

    paths = parts.readable_parts(folder)
    sample = _first_embeddings(paths)
    gaussian = fit_gaussian(torch.from_numpy(sample))

    def densities(rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        index, embeddings = _embedded(rows)
        return index, gaussian.log_density(torch.from_numpy(embeddings.copy())).numpy()

    found = [each for part in of_parts(paths, ["index", "embedding"], densities) for each in part or ()]
    index, density = (np.concatenate([each[side] for each in found]) for side in (0, 1))
    known = known_reading(folder)
    if known is not None and np.array_equal(index, known.index):
        index = known.index  # one memory for both
    samples, dim = sample.shape
    release()
    return RunGaussian(samples, dim, gaussian.shrinkage, pa.table({"index": index, "log_density": density}))


def _first_embeddings(paths: Sequence[Path]) -> NDArray[np.float32]:
    """Embeddings of the first rows, as many as are fitted, (n, D).

    Raises:
        ValueError: There are none.
    """
    first: list[NDArray[np.float32]] = []
    numbers = 0
    for embeddings in _all_embeddings(paths):
        first.append(embeddings)
        numbers += embeddings.size
        if numbers >= _FIT_NUMBERS:
            break
    if not first:
        raise ValueError("Its rows hold no embedding.")
    return np.concatenate(first)


def _all_embeddings(paths: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """Embeddings (n, D) of some rows after the other; a few parts are read when they are due."""
    for first in range(0, len(paths), _TOGETHER):
        for part in of_parts(paths[first : first + _TOGETHER], ["index", "embedding"], _embedded):
            yield from (embeddings for _, embeddings in part or () if len(embeddings))


def _embedded(rows: pa.Table) -> Embedded:
    """Those of some rows that have an embedding.

    Raises:
        ValueError: They are not of one length.
    """
    held = rows.filter(pc.is_valid(rows["embedding"])) if rows["embedding"].null_count else rows
    flat = held["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return held["index"].to_numpy(), flat.reshape(len(held), -1 if len(held) else 0)
