"""Experiments of the theory lab over dimensions, sample sizes and seeds (paper, Figure 2 top right); resumable.

Each finished experiment is one small JSON file in the folder ``theory`` under the runs, named by a hash of what
decides its numbers. Resuming is a set difference: asked for, less what is there.
"""

import contextlib
import hashlib
import json
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student

from jepascore_core.errors import RunError
from jepascore_core.files import read_json, write_json
from jepascore_core.theory.encoder import LabConfig
from jepascore_core.theory.scores import correlations
from jepascore_core.theory.training import LabStep, LabTraining

RECIPE = 1  # raise it when the same config gives other numbers: what was kept before is then computed anew

OnStep = Callable[[LabConfig, LabStep], None]


def grid(dims: Sequence[int], samples: Sequence[int], seeds: int, **options: Any) -> list[LabConfig]:
    """The experiments of a grid, small ones first.

    Args:
        dims: Each d.
        samples: Each number of samples.
        seeds: Seeds 0 to seeds − 1, ≥ 1.
        **options: Other fields of ``LabConfig``.

    Returns:
        One config for each cell and seed.

    Raises:
        RunError: Nothing is asked for, or a config cannot be trained.
    """
    configs = [
        LabConfig(dim=dim, samples=count, seed=seed, **options)
        for dim, count, seed in product(sorted(set(dims)), sorted(set(samples)), range(seeds))
    ]
    if not configs:
        raise RunError("A grid needs at least one dimension, one number of samples and one seed.")
    for config in configs:
        config.check()
    return configs


def run_grid(
    configs: Iterable[LabConfig],
    runs_dir: Path,
    *,
    on_step: OnStep | None = None,
    on_cell: Callable[[dict[str, Any]], None] | None = None,
    stop: threading.Event | None = None,
) -> list[dict[str, Any]]:
    """Run the experiments that are not there yet, and keep each as soon as it is done.

    Args:
        configs: What is asked for, in this order.
        runs_dir: Folder of the runs.
        on_step: Called after each step of a training.
        on_cell: Called with each result, found or made.
        stop: When set, the experiment in work is given up and what is done is returned.

    Returns:
        One record for each experiment, see ``measure``; fewer when stopped.

    Raises:
        RunError: A training fails, or a result cannot be kept.
    """
    records = []
    for config in configs:
        record = kept(config, runs_dir)
        if record is None:
            record = measure(config, on_step=on_step, stop=stop)
            if record is None:
                break
            _keep(record, _path(config, runs_dir))
        records.append(record)
        if on_cell:
            on_cell(record)
    return records


def measure(
    config: LabConfig, *, on_step: OnStep | None = None, stop: threading.Event | None = None
) -> dict[str, Any] | None:
    """Run one experiment.

    Args:
        config: The experiment.
        on_step: Called after each step.
        stop: When set, the experiment is given up.

    Returns:
        ``dim``, ``samples``, ``seed``, ``objective``, ``broken``; ``pearson`` and ``spearman`` of the raw score (eq. 5)
        with the true log p on held-out points; those of the other scores and of the untrained net as ``correlations``
        names them, null where a score does not vary; the last ``loss``, ``elapsed_s``, and all of ``config``. None
        when stopped.

    Raises:
        RunError: The config cannot be trained, or its loss is no longer finite.
    """
    started, loss = time.monotonic(), math.nan
    training = LabTraining(config)
    for step in training.run(diagnose_every=config.steps):
        loss = step.loss
        if on_step:
            on_step(config, step)
        if stop and stop.is_set():
            return None
    found = {name: _number(value) for name, value in correlations(training).items()}
    named = {name: getattr(config, name) for name in ("dim", "samples", "seed", "objective", "broken")}
    raw = {"pearson": found.pop("raw_pearson"), "spearman": found.pop("raw_spearman")}
    elapsed = round(time.monotonic() - started, 2)
    facts = {"loss": _number(loss), "elapsed_s": elapsed, "torch": str(torch.__version__)}
    return named | raw | found | facts | {"config": asdict(config), "recipe": RECIPE}


def kept(config: LabConfig, runs_dir: Path) -> dict[str, Any] | None:
    """The kept record of an experiment.

    Args:
        config: The experiment.
        runs_dir: Folder of the runs.

    Returns:
        The record; None when it was not run yet, or its file is damaged.
    """
    try:
        record = read_json(_path(config, runs_dir))
    except (FileNotFoundError, ValueError):
        return None
    return record if _sound(record) and record["config"] == asdict(config) else None


def all_kept(runs_dir: Path) -> list[dict[str, Any]]:
    """Every kept record, whoever asked for it, in the order of its file names.

    Args:
        runs_dir: Folder of the runs.

    Returns:
        The records; damaged ones and those of another recipe are passed over.
    """
    records = []
    for path in sorted((runs_dir / "theory").glob("*.json")):
        with contextlib.suppress(FileNotFoundError, ValueError):
            record = read_json(path)
            if _sound(record):
                records.append(record)
    return records


def _sound(record: dict[str, Any]) -> bool:
    """Whether a file holds the record of an experiment under the present recipe."""
    counted = all(type(record.get(name)) is int for name in ("dim", "samples", "seed"))
    named = all(isinstance(record.get(name), str) for name in ("objective", "broken"))
    found = [value for name, value in record.items() if name.endswith(("pearson", "spearman"))]
    numbers = all(value is None or (type(value) in (int, float) and abs(value) < 1.01) for value in found)
    whole = {"pearson", "spearman"} <= record.keys() and isinstance(record.get("config"), dict)
    timed = type(record.get("elapsed_s")) in (int, float)
    return counted and named and numbers and whole and timed and record.get("recipe") == RECIPE


def summary(records: Iterable[dict[str, Any]], field: str = "pearson") -> list[dict[str, Any]]:
    """Mean of one number over seeds, with a 95 % interval of Student's t, for each cell of a heatmap.

    Args:
        records: As ``run_grid`` gives them.
        field: The number to summarise; records where it is null are passed over.

    Returns:
        ``dim``, ``samples``, ``objective``, ``broken``, ``seeds`` (how many), ``mean``, ``low`` and ``high`` (within
        −1 to 1; null with one seed), in the order of the records.
    """
    cells: dict[tuple[Any, ...], list[float]] = {}
    names = ("dim", "samples", "objective", "broken")
    for record in records:
        if record[field] is not None:
            cells.setdefault(tuple(record[name] for name in names), []).append(record[field])
    return [dict(zip(names, cell, strict=True)) | _interval(values) for cell, values in cells.items()]


def _interval(values: list[float]) -> dict[str, Any]:
    """Mean of correlations over seeds and where 95 % of Student's t lies around it."""
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return {"seeds": 1, "mean": mean, "low": None, "high": None}
    half = float(student.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return {"seeds": count, "mean": mean, "low": max(-1.0, mean - half), "high": min(1.0, mean + half)}


def _path(config: LabConfig, runs_dir: Path) -> Path:
    """File of an experiment: a name that a person can read, and a hash of all that decides the numbers."""
    decided = json.dumps(asdict(config) | {"recipe": RECIPE}, sort_keys=True)
    digest = hashlib.blake2b(decided.encode(), digest_size=5).hexdigest()
    return runs_dir / "theory" / f"{config.objective}-{config.dim}d-{config.samples}-seed{config.seed}-{digest}.json"


def _keep(record: dict[str, Any], path: Path) -> None:
    """Write a record, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
    except OSError as error:
        raise RunError(f"Cannot keep a result in {path.parent} ({error.strerror}).") from error


def _number(value: float) -> float | None:
    """A number as JSON knows it."""
    return round(value, 6) if math.isfinite(value) else None
