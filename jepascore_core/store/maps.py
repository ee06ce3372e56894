"""Maps of runs: which one is asked for, and the small file beside the runs that keeps it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jepascore_core.errors import RunError, in_words
from jepascore_core.files import read_json, why, write_json, written_aside
from jepascore_core.store.parts import stamps
from jepascore_core.store.runs import open_run

FOLDER = ".maps"
PROJECTIONS = ("pca", "umap")
MOST_IMAGES = 10_000  # of a map: more would only overprint, and take UMAP minutes

_KEPT = 64  # maps; each is a few hundred kB
_KEY = b"jepascore_map"
_MAKERS = ("umap-learn", "numba", "pynndescent", "scikit-learn", "numpy")


@dataclass(frozen=True, slots=True)
class MapRequest:
    """What decides a map, beside the rows of its runs.

    Attributes:
        runs: Names (or folders) of runs of one encoder, in an order that decides nothing but the order of points.
        projection: A name of ``PROJECTIONS``.
        neighbours: Of ``umap``.
        seed: Of ``umap``, and of the sample on which a map is judged.
    """

    runs: tuple[str, ...]
    projection: str = "pca"
    neighbours: int = 15
    seed: int = 0

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            RunError: There is no run, no such projection, or too few neighbours.
        """
        if not self.runs:
            raise RunError("A map needs at least one run.")
        if self.projection not in PROJECTIONS:
            raise RunError(f"There is no projection {self.projection!r}; there are {', '.join(PROJECTIONS)}.")
        if not 2 <= self.neighbours <= 500:
            raise RunError(f"A map keeps between 2 and 500 neighbours, not {self.neighbours}.")


@dataclass(frozen=True, slots=True, eq=False)
class RunMap:
    """Images of some runs of one encoder in two dimensions.

    Attributes:
        request: What was asked for.
        codes: Place of each image's run in ``request.runs``, (N,).
        index: Number of each image in its run, (N,).
        xy: Where it lies, (N, 2): in the embedding's units (``pca``) or in none (``umap``).
        dim: D.
        share: Share of the variance along each axis of ``pca``, 0 to 1.
        trust: Trustworthiness, see ``projection.trust``.
        elapsed_s: How long it took to make.
    """

    request: MapRequest
    codes: NDArray[np.int32] = field(repr=False)
    index: NDArray[np.int64] = field(repr=False)
    xy: NDArray[np.float32] = field(repr=False)
    dim: int
    share: tuple[float, float] | None
    trust: float | None
    elapsed_s: float


def map_file(request: MapRequest, home: Path) -> Path:
    """File that keeps a map: another one as soon as a run's rows, the settings or the libraries change.

    Args:
        request: The map.
        home: Where runs lie.

    Returns:
        Path of a Parquet file, which need not exist.

    Raises:
        RunError: There is no such run, or the request cannot be.
    """
    request.check()
    runs = [open_run(name, home) for name in request.runs]
    held = [stamps(run.path) for run in runs]
    text = json.dumps([asdict(request), [str(run.path) for run in runs], held, _makers()], sort_keys=True)
    return home / FOLDER / f"{hashlib.blake2b(text.encode(errors='surrogatepass'), digest_size=10).hexdigest()}.parquet"


def write_map(path: Path, found: RunMap) -> None:
    """Keep a map, and forget the oldest of very many.

    Args:
        path: File of ``map_file``; its folder is made.
        found: The map.

    Raises:
        RunError: It cannot be written.
    """
    about = {name: getattr(found, name) for name in ("dim", "share", "trust", "elapsed_s")}
    table = pa.table(
        {"run": found.codes, "index": found.index, "x": found.xy[:, 0], "y": found.xy[:, 1]},
        metadata={_KEY: json.dumps(about | {"request": asdict(found.request)})},
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path, durable=False) as aside:
            pq.write_table(table, aside, compression="zstd")
        by_age = sorted(path.parent.glob("*.parquet"), key=lambda kept: kept.stat().st_mtime_ns)
        for old in by_age[:-_KEPT]:
            for suffix in (".parquet", ".log"):
                old.with_suffix(suffix).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write in {path.parent} ({why(error)}).") from error


def read_map(path: Path) -> RunMap | str | None:
    """Read what ``write_map`` or ``recorded`` wrote.

    Args:
        path: File of ``map_file``.

    Returns:
        The map; or why there is none; or None where there is no file, or a damaged one.
    """
    with contextlib.suppress(OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[_KEY])
        request = about.pop("request")
        return RunMap(
            request=MapRequest(**request | {"runs": tuple(request["runs"])}),
            codes=table["run"].to_numpy().astype(np.int32),
            index=table["index"].to_numpy().astype(np.int64),
            xy=np.stack([table[axis].to_numpy().astype(np.float32) for axis in "xy"], axis=1),
            **about | {"share": about["share"] and tuple(about["share"])},
        )
    with contextlib.suppress(FileNotFoundError, ValueError):
        problem = read_json(path.with_suffix(".json")).get("problem")
        return problem if isinstance(problem, str) else None
    return None


@contextlib.contextmanager
def recorded(path: Path | None) -> Iterator[None]:
    """Write down why the map that is made in this block could not be made, and that its process is done.

    Args:
        path: File of ``map_file``; None keeps nothing.

    Yields:
        Nothing.
    """
    try:
        yield
    except Exception as error:
        problem = in_words(error)
        if path is not None:
            with contextlib.suppress(OSError):
                write_json(path.with_suffix(".json"), {"problem": problem[:500]}, durable=False)
        raise
    finally:
        if path is not None:
            path.with_suffix(".pid").unlink(missing_ok=True)


def forget_map(path: Path) -> None:
    """Forget why a map could not be made, so that it is tried again.

    Args:
        path: File of ``map_file``.
    """
    for suffix in (".json", ".log"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _makers() -> dict[str, str]:
    """Versions of the libraries that decide a map."""
    found = {}
    for package in _MAKERS:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
