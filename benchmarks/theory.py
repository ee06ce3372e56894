"""Does the theory hold? Every number of the README's tables: ``python -m benchmarks.theory``.

Runs the grids that ``python -m jepascore_core theory`` runs, keeps finished experiments in a folder of their own, and
writes all records to ``results/theory.json``. Minutes on two CPU cores.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.speed import RESULTS, environment
from jepascore_core.store import runs_home
from jepascore_core.theory.grid import grid, run_grid

DIMS, SAMPLES, SEEDS = (2, 8, 32), (1000, 10_000), 3
SHOWN = {
    "raw": "pearson",
    "sphere": "sphere_pearson",
    "corrected": "corrected_pearson",
    "untrained, raw": "untrained_raw_pearson",
    "untrained, corrected": "untrained_corrected_pearson",
}

VARIANTS = (
    ("as it is", "none", 2.0),
    ("`--scale-ratio 1`: components of one volume", "none", 1.0),
    ("`--break no_anticollapse`", "no_anticollapse", 2.0),
    ("`--break few_samples`: 32 of them", "few_samples", 2.0),
    ("`--break collapsed`: half of the embedding silent", "collapsed", 2.0),
)


def pick(records: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """The records that have these values."""
    return [record for record in records if all(_value(record, name) == value for name, value in wanted.items())]


def _value(record: dict[str, Any], name: str) -> Any:
    """A field of a record or of its config."""
    return record.get(name, record["config"].get(name))


def spread(records: list[dict[str, Any]], field: str) -> str:
    """Mean over seeds, with least and greatest."""
    values = [record[field] for record in records if record[field] is not None]
    if not values:
        return "does not vary"
    return f"{statistics.fmean(values):.2f} ({min(values):.2f}–{max(values):.2f})".replace("-", "−")


def grid_table(rows: list[dict[str, Any]]) -> str:
    """The paper's Figure 2, top right: the raw score of the default objective over dimension and samples."""
    names = ("Pearson", "Spearman", "untrained, Pearson", "one Gaussian, Pearson")
    fields = ("pearson", "spearman", "untrained_raw_pearson", "gaussian_pearson")
    lines = ["| d | samples | " + " | ".join(names) + " |", "|---" * 6 + "|"]
    chosen = pick(rows, objective="uniformity", broken="none", scale_ratio=2.0)
    for dim in DIMS:
        for count in SAMPLES:
            cell = pick(chosen, dim=dim, samples=count)
            lines.append(f"| {dim} | {count:,} | {' | '.join(spread(cell, field) for field in fields)} |")
    return "\n".join(lines)


def objective_table(rows: list[dict[str, Any]]) -> str:
    """Pearson of the three scores under each objective, 10,000 samples."""
    lines = ["| objective | d | " + " | ".join(SHOWN) + " |", "|---" * (2 + len(SHOWN)) + "|"]
    for objective in ("uniformity", "sigreg", "vicreg", "moments"):
        for dim in DIMS:
            cell = pick(rows, objective=objective, dim=dim, samples=10_000, broken="none", scale_ratio=2.0)
            lines.append(f"| {objective} | {dim} | {' | '.join(spread(cell, field) for field in SHOWN.values())} |")
    return "\n".join(lines)


def variant_table(rows: list[dict[str, Any]]) -> str:
    """Pearson of the raw score where the theory is strained or broken: the default objective, 10,000 samples."""
    lines = ["| variant | " + " | ".join(f"d = {dim}" for dim in DIMS) + " |", "|---" * (1 + len(DIMS)) + "|"]
    for name, broken, ratio in VARIANTS:
        cells = [
            pick(rows, objective="uniformity", dim=dim, samples=10_000, broken=broken, scale_ratio=ratio)
            for dim in DIMS
        ]
        lines.append(f"| {name} | {' | '.join(spread(cell, 'pearson') for cell in cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run the grids, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=None, help="where finished experiments are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "theory.json")
    options = parser.parse_args()
    configs = grid(DIMS, SAMPLES, SEEDS)
    for objective in ("sigreg", "vicreg", "moments"):
        configs += grid(DIMS, (10_000,), SEEDS, objective=objective)
    for _, broken, ratio in VARIANTS[1:]:
        configs += grid(DIMS, (10_000,), SEEDS, broken=broken, scale_ratio=ratio)
    rows = run_grid(configs, runs_home(options.runs_dir), on_cell=lambda record: print(".", end="", flush=True))
    print("", grid_table(rows), objective_table(rows), variant_table(rows), sep="\n\n")
    content = {"environment": environment("cpu"), "rows": rows}
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
