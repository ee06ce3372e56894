"""What the score and its rivals find: every set of images as the usual one, every other as outliers, curation of each.

    python -m benchmarks.found --sets photos=folder:imagenet10 digits=folder:mnist … --encoders demo:jepa-tiny …

scores ``--limit`` images of each set under each encoder (asked again, it resumes), judges all ordered pairs by every
method of ``outliers`` with models that never saw what they judge, measures curation of every set that has labels, and
writes ``benchmarks/results/found.json`` and prints the README's tables.
"""

import argparse
import json
import platform
from collections import Counter
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any

from jepascore_core.curating import candidates, curated, measure, search
from jepascore_core.errors import JepaScoreError
from jepascore_core.outliers import as_facts, evaluate, rows_of_runs
from jepascore_core.runner import score_dataset
from jepascore_core.store import Run, RunRequest

RESULTS = Path(__file__).parent / "results" / "found.json"
KEPT = ("out", "method", "title", "auroc", "auroc_low", "auroc_high", "fpr95", "direction", "n_in", "n_out", "p")
SCORE = "jepa_score"


def pairs_of(runs: dict[str, Run]) -> list[dict[str, Any]]:
    """Every method on every ordered pair of sets under one encoder."""
    names = {run.name: title for title, run in runs.items()}
    rows = []
    for title, run in runs.items():
        inside, *others = rows_of_runs(run, [other for name, other in runs.items() if name != title])
        for fact in as_facts(evaluate(inside, others)):
            p = fact["p"] if isfinite(fact["p"]) else None
            rows.append({"in": title, **{key: fact[key] for key in KEPT}, "out": names[fact["out"]], "p": p})
        print(f"  {title} against the others", flush=True)
    return rows


def curation_of(runs: dict[str, Run], seeds: int) -> dict[str, Any]:
    """What keeping images by score does, set by set."""
    found: dict[str, Any] = {}
    for title, run in runs.items():
        try:
            searched = search(run)
            among = candidates(run, "raw", searched)
            facts = curated(among, searched, measure(among, searched, seeds=seeds))
        except JepaScoreError as error:
            found[title] = {"skipped": str(error)}
            continue
        found[title] = {"verdict": facts["verdict"], "duplicates": facts["duplicates"]["sentence"]}
        print(f"  {title}: {facts['verdict']}", flush=True)
    return found


def matrix(rows: list[dict[str, Any]], sets: list[str]) -> str:
    """AUROC of the score, a row for each usual set."""
    lines = ["| usual set ↓, others → | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    held = {(row["in"], row["out"]): row for row in rows if row["method"] == SCORE}
    for title in sets:
        cells = [f"{held[title, other]['auroc']:.2f}" if title != other else "–" for other in sets]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def methods_table(rows: list[dict[str, Any]]) -> str:
    """Each method over all pairs: mean AUROC, directions, and how often it beats the score."""
    score = {(row["in"], row["out"]): row["auroc"] for row in rows if row["method"] == SCORE}
    lines = [
        "| method | mean AUROC | least | holds / undecided / inverted | better than JEPA-SCORE (p < 0.05) |",
        "|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        directions = Counter(row["direction"] for row in mine)
        better = sum(
            row["auroc"] > score[row["in"], row["out"]] and (row["p"] if row["p"] is not None else 1) < 0.05
            for row in mine
        )
        shown = "" if method == SCORE else f"{better} of {len(mine)}"
        aurocs = [row["auroc"] for row in mine]
        told = " / ".join(str(directions[way]) for way in ("holds", "undecided", "inverted"))
        lines.append(f"| {mine[0]['title']} | {mean(aurocs):.2f} | {min(aurocs):.2f} | {told} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Score, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", required=True, help="name=dataset id")
    parser.add_argument("--encoders", nargs="+", default=["demo:jepa-tiny", "demo:jepa-tiny-untrained"])
    parser.add_argument("--limit", type=int, default=1000, help="images of each set, classes in turn")
    parser.add_argument("--seeds", type=int, default=10, help="splits of the curation experiment; 0 leaves it out")
    parser.add_argument("--runs-dir", type=Path, help="folder of runs, as everywhere")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sets = dict(entry.split("=", 1) for entry in options.sets)
    found: dict[str, Any] = {
        "limit": options.limit,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "scikit-learn", "numpy")},
        "encoders": {},
    }
    for encoder in options.encoders:
        print(f"\n{encoder}", flush=True)
        runs = {
            title: score_dataset(RunRequest(encoder, dataset, limit=options.limit), runs_dir=options.runs_dir)
            for title, dataset in sets.items()
        }
        rows = pairs_of(runs)
        curation = curation_of(runs, options.seeds) if options.seeds else {}
        found["encoders"][encoder] = {"pairs": rows, "curation": curation}
        print(f"\n{matrix(rows, list(sets))}\n\n{methods_table(rows)}\n", flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
