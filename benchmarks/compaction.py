"""How long a run of many small parts takes to open, before and after ``compact``: ``python -m benchmarks.compaction``.

A run of an encoder that takes a second an image ends with thousands of parts of some hundred rows. Each measurement is
a fresh process over files that the system holds in memory, before and after in turn. The run is synthetic, its
thumbnails are real.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.speed import RESULTS, environment
from benchmarks.ui_runs import make_run, thumbnails
from jepascore_core.store.compacting import compact
from jepascore_core.store.parts import part_files

PARTS, PART_ROWS = 2000, 100
STEPS = {
    "listed": "the run in a list (its footers)",
    "counted": "images of each class",
    "gallery": "first gallery: ranking, 12 least likely with thumbnails",
    "further": "12 further images",
}
_LOOK = """
import sys, time
from jepascore_core import store
took, began = [], time.perf_counter()
def lap():
    global began
    now = time.perf_counter()
    took.append(now - began)
    began = now
run, = store.list_runs(sys.argv[1])
run.progress(); lap()
store.class_counts(run); lap()
store.extremes(run, 12); lap()
store.extremes(run, 12, offset=5000); lap()
print(took)
"""


def look(home: Path) -> dict[str, float]:
    """Seconds that each step takes in a fresh process."""
    command = [sys.executable, "-c", _LOOK, str(home / "runs")]
    words = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ).stdout
    return dict(zip(STEPS, json.loads(words), strict=True))


def measure(folder: Path, count: int, part_rows: int, repeats: int) -> dict[str, Any]:
    """Every number."""
    before, after = folder / "before", folder / "after"
    made = make_run(before, count * part_rows, 0, thumbnails(), part_rows)
    shutil.copytree(before, after)
    began = time.perf_counter()
    compact(after / "runs" / made.name)
    took = time.perf_counter() - began
    rounds = [{"before": look(before), "after": look(after)} for _ in range(repeats)]
    rows = [
        {"step": words} | {when: _spread([one[when][step] for one in rounds]) for when in ("before", "after")}
        for step, words in STEPS.items()
    ]
    return {
        "images": count * part_rows,
        "parts": [len(part_files(home / "runs" / made.name)) for home in (before, after)],
        "bytes": [sum(path.stat().st_size for path in home.rglob("part-*")) for home in (before, after)],
        "compaction_s": took,
        "rounds": repeats,
        "rows": rows,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| a fresh process asks for | before | after |", "|---|---|---|"]
    for row in rows:
        both = (row["before"], row["after"])
        cells = (f"{one['median_s']:.2f} s ({one['least_s']:.2f}–{one['most_s']:.2f})" for one in both)
        lines.append(f"| {row['step']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(times: list[float]) -> dict[str, float]:
    """Median, least and most of some times, in seconds."""
    return {"median_s": statistics.median(times), "least_s": min(times), "most_s": max(times)}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=PARTS)
    parser.add_argument("--part-rows", type=int, default=PART_ROWS, help="rows of a part before")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "compaction.json", help="JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), options.parts, options.part_rows, options.repeats)
    print(f"{measured['parts'][0]:,} parts become {measured['parts'][1]} in {measured['compaction_s']:.1f} s")
    print(table(measured["rows"]))
    options.out.write_text(json.dumps({"environment": environment("cpu"), **measured}, indent=2) + "\n")


if __name__ == "__main__":
    main()
