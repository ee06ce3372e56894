"""A Gaussian fitted to the embeddings of a run, and each row's log-density under it: what ``corrected`` adds."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jepascore_core.errors import RunError
from jepascore_core.store import parts
from jepascore_core.store.database import query_batches
from jepascore_core.store.runs import Run

_FIT_NUMBERS = 1 << 24  # N·D that are fitted: 44,000 images at D = 384, 13,000 at 1280, ten for each dimension
_REMEMBERED = 16  # runs; a table takes 16 bytes an image


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
    try:
        return _fit(run.path, parts.stamp(run.path))
    except ValueError as error:  # from the fit; jepascore errors pass
        raise RunError(f"The corrected score is not available for {run.label}. {error}") from error


@functools.lru_cache(_REMEMBERED)
def _fit(folder: Path, _stamp: str) -> RunGaussian:
    """Fit to the first embeddings; take the log-density of all, a batch at a time.

    Raises:
        ValueError: There is nothing to fit to.
    """
    import torch  # the store does without it but for this

    from jepascore_core.density import fit_gaussian

    first: list[NDArray[np.float32]] = []
    numbers = 0
    for _, embeddings in _embeddings(folder):
        first.append(embeddings)
        numbers += embeddings.size
        if numbers >= _FIT_NUMBERS:
            break
    if not first:
        raise ValueError("Its rows hold no embedding.")
    sample = np.concatenate(first)
    gaussian = fit_gaussian(torch.from_numpy(sample))
    indices, densities = [], []
    for index, embeddings in _embeddings(folder):
        indices.append(index)
        densities.append(gaussian.log_density(torch.tensor(embeddings)).numpy())
    table = pa.table({"index": np.concatenate(indices), "log_density": np.concatenate(densities)})
    samples, dim = sample.shape
    return RunGaussian(samples, dim, gaussian.shrinkage, table)


def _embeddings(folder: Path) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Row numbers (n,) and embeddings (n, D) of all rows that have a score, a batch at a time."""
    wanted = "SELECT index, embedding FROM rows WHERE jepa_score IS NOT NULL AND embedding IS NOT NULL"
    for batch in query_batches(folder, wanted):
        if batch.num_rows:
            flat = batch["embedding"].flatten().to_numpy(zero_copy_only=False)
            yield batch["index"].to_numpy(), flat.reshape(batch.num_rows, -1)
