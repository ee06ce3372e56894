"""The fault campaign: ``python -m tests.chaos``, or ``make chaos``; takes minutes.

Every trial says whether the product kept its promise: nothing that was stored is lost, each row is there once, what is
damaged is named, and what a person reads is a sentence.
"""

import argparse
import importlib
import importlib.util
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jepascore_core.versions import versions
from tests.chaos.outcome import Outcome

ROOT = Path(__file__).parent.parent.parent
OUT = ROOT / "benchmarks" / "results" / "chaos.json"
TRIALS = {"kills": 120, "faults": 100, "inputs": 2000, "fuzz": 5_000, "ray_kills": 20}  # campaigns, in this order


def main() -> None:
    """Run campaigns, print the table, write the JSON; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=f"of {', '.join(TRIALS)}; default: all")
    parser.add_argument("--trials", type=int, help="of each campaign; default: as many as it usually has")
    parser.add_argument("--seed", type=int, default=0, help="of everything that chance decides, but the system's pace")
    parser.add_argument("--json", type=Path, help=f"results; default {OUT.relative_to(ROOT)} where all campaigns ran")
    options = parser.parse_args()
    if unknown := set(options.campaigns) - set(TRIALS):
        parser.error(f"there is no campaign {', '.join(sorted(unknown))}: choose from {', '.join(TRIALS)}")
    there = [name for name in TRIALS if importlib.util.find_spec(f"tests.chaos.{name}")]
    found: list[Outcome] = []
    seconds: dict[str, float] = {}
    for name in options.campaigns or there:
        began = time.monotonic()
        outcomes = outcomes_of(name, options.trials or TRIALS[name], options.seed)
        seconds[name] = time.monotonic() - began
        found += outcomes
        print(f"{name}: {len(outcomes)} trials in {seconds[name]:.0f} s", file=sys.stderr)
    rows = kinds(found)
    print(table(rows), table(totals(found)), sep="\n\n")
    for outcome in found:
        if not outcome.ok:
            print(f"\nBROKEN  {outcome.campaign}, {outcome.trial}: {outcome.words}")
    out = options.json or (None if options.campaigns or options.trials else OUT)
    if out is not None:
        result = {
            "environment": environment(options.seed),
            "seconds": seconds,
            "campaigns": totals(found),
            "rows": rows,
        }
        out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(0 if all(outcome.ok for outcome in found) else 1)


def outcomes_of(name: str, trials: int, seed: int) -> list[Outcome]:
    """Run one campaign in a folder that is gone afterwards; paths are left out of what it says."""
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        outcomes = importlib.import_module(f"tests.chaos.{name}").campaign(trials, seed, Path(folder) / name)
    return [without_paths(outcome, (folder, str(ROOT))) for outcome in outcomes]


def without_paths(outcome: Outcome, paths: Sequence[str]) -> Outcome:
    """The same outcome, without folders of this machine."""
    words = outcome.words
    for path in paths:
        words = words.replace(path, "…")
    return Outcome(outcome.campaign, outcome.trial, outcome.ok, words, outcome.seconds, outcome.memory_mb)


def kinds(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each kind of trial, in the order of the first of each."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.campaign, outcome.trial), []).append(outcome)
    return [{"campaign": campaign, "trial": trial} | counted(group) for (campaign, trial), group in groups.items()]


def totals(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each campaign."""
    names = dict.fromkeys(outcome.campaign for outcome in outcomes)
    return [{"campaign": name} | counted([each for each in outcomes if each.campaign == name]) for name in names]


def counted(group: Sequence[Outcome]) -> dict[str, Any]:
    """Numbers of some trials, and what was said in one of them, a broken one if there is one."""
    memory = [outcome.memory_mb for outcome in group if outcome.memory_mb is not None]
    return {
        "trials": len(group),
        "kept": sum(outcome.ok for outcome in group),
        "slowest_s": round(max(outcome.seconds for outcome in group), 1),
        "most_memory_mb": round(max(memory)) if memory else None,
        "words": min(group, key=lambda outcome: outcome.ok).words[:300],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table; without a column for kinds where the rows are whole campaigns."""
    by_kind = bool(rows) and "trial" in rows[0]
    lines = [
        f"| campaign |{' trial |' if by_kind else ''} trials | promises kept | slowest, s | most memory, MB |",
        f"|---|{'---|' if by_kind else ''}---|---|---|---|",
    ]
    for row in rows:
        memory = "" if row["most_memory_mb"] is None else f"{row['most_memory_mb']:,}"
        kind = f" {row['trial']} |" if by_kind else ""
        lines.append(
            f"| {row['campaign']} |{kind} {row['trials']:,} | {row['kept']:,} | {row['slowest_s']:.1f} | {memory} |"
        )
    return "\n".join(lines)


def environment(seed: int) -> dict[str, Any]:
    """What a reader must know to repeat it."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "seed": seed,
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
