"""What ``benchmarks.ui`` has measured, as Markdown."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.ui_photos import TIMES

Size = dict[str, Any]  # all that was measured at one number of images
SCRIPT_S = {100_000: 0.3, 1_000_000: 0.5}  # most server time of a click, up to a size


@dataclass(frozen=True)
class Line:
    """One line of the summary.

    Attributes:
        name: What was measured.
        target: What it should be, in words; empty where there is no target.
        cell: What one size reached, in words.
    """

    name: str
    target: str
    cell: Callable[[Size], str]


_WANTED = "0.3 s at 100,000, 0.5 s at 1,000,000"
LINES = (
    Line("first gallery from a cold server, slowest page", "2 s", lambda size: f"{max(_galleries(size)):.1f} s"),
    Line("a click is answered, median", "", lambda size: f"{_median(size, 'answered_s'):.2f} s"),
    Line("the slowest answer", _WANTED, lambda size: _told(size, "answered_s")),
    Line("answers beyond that", "none", lambda size: _late(size, "answered_s")),
    Line("server time of a click in all, median", "", lambda size: f"{_median(size, 'server_s'):.2f} s"),
    Line("the most", _WANTED, lambda size: _told(size, "server_s")),
    Line("clicks beyond that", "none", lambda size: _late(size, "server_s")),
    Line("click to settled view, median", "", lambda size: f"{_median(size, 'settled_s'):.2f} s"),
    Line("the slowest settled view", "", lambda size: _told(size, "settled_s")),
    Line("most sent for one view", "2 MB", lambda size: f"{_heaviest(size) / 1e6:.1f} MB"),
    Line("server's memory after every click, RSS (USS)", "1.5 GB", lambda size: _memory(size)),
    Line("ten browsers click at once: settled, median (slowest)", "2 s, no error", lambda size: _together(size)),
    Line("the same, server time", "", lambda size: _together_server(size)),
)


def table(sizes: Sequence[Size]) -> str:
    """The targets, and what each size reached."""
    lines = [
        "| | target | " + " | ".join(f"{size['rows']:,} images" for size in sizes) + " |",
        "|---|---|" + "---|" * len(sizes),
    ]
    lines += [f"| {line.name} | {line.target} | {' | '.join(map(line.cell, sizes))} |" for line in LINES]
    return "\n".join(lines)


def clicks_table(sizes: Sequence[Size]) -> str:
    """Every action at every size, the slowest of its turns: answer, server time in all, settled view, bytes."""
    names = list(dict.fromkeys((click["page"], click["action"]) for size in sizes for click in size["clicks"]))
    head = [f"{size['rows']:,}: answered s | server s | settled s | kB" for size in sizes]
    lines = ["| page | click | " + " | ".join(head) + " |", "|---|---|" + "---|" * (4 * len(sizes))]
    for page, action in names:
        cells = []
        for size in sizes:
            found = [click for click in size["clicks"] if (click["page"], click["action"]) == (page, action)]
            cells += [*(_most(found, name) for name in ("answered_s", "server_s", "settled_s")), _kilo(found)]
        lines.append(f"| {page} | {action} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def loads_table(sizes: Sequence[Size]) -> str:
    """Every page opened in a fresh browser, from a cold server and a warm one."""
    lines = [
        "| images | page | server | first paint s | first picture s | settled s | view MB | program MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        for found in size["loads"]:
            for state, seen in _states(found).items():
                marks = [seconds(seen["marks"].get(name)) for name in ("paint", "gallery", "settled")]
                sent = [f"{seen[name] / 1e6:.2f}" for name in ("view_bytes", "program_bytes")]
                lines.append(f"| {size['rows']:,} | {found['page']} | {state} | {' | '.join([*marks, *sent])} |")
    return "\n".join(lines)


def photos_table(photos: dict[str, Any]) -> str:
    """Ours beside LightlyStudio; a sentence where that was left out."""
    if "skipped" in photos:
        return f"LightlyStudio was left out: {photos['skipped']}."
    lines = [f"| seconds | LightlyStudio {photos['lightly_version']} | ours |", "|---|---|---|"]
    lines += [f"| {name} | {photos['lightly'][name]:.2f} | {photos['ours'][name]:.2f} |" for name in TIMES]
    return "\n".join(lines)


def limit(rows: int) -> float:
    """Most server time of a click at a size, s."""
    return min((most for size, most in SCRIPT_S.items() if rows <= size), default=max(SCRIPT_S.values()))


def seconds(value: float | None) -> str:
    """Seconds for a table."""
    return "–" if value is None else f"{value:.2f}"


def _states(load: dict[str, Any]) -> dict[str, Any]:
    """What was seen of a page, ``cold`` and ``warm``; one that did not settle is absent."""
    return {state: load[state] for state in ("cold", "warm") if state in load}


def _galleries(size: Size) -> list[float]:
    """First pictures of the pages that have some, s."""
    found = [_states(load).get("cold", {"marks": {}})["marks"].get("gallery") for load in size["loads"]]
    return [moment for moment in found if moment is not None]


def _median(size: Size, name: str) -> float:
    return statistics.median(click[name] for click in size["clicks"] if click[name] is not None)


def _told(size: Size, name: str) -> str:
    """The click that took most."""
    click = max(size["clicks"], key=lambda click: click[name] or 0.0)
    return f"{click[name]:.2f} s ({click['page']}: {click['action']})"


def _late(size: Size, name: str) -> str:
    """Clicks beyond the target."""
    late = sum((click[name] or 0.0) > limit(size["rows"]) for click in size["clicks"])
    return f"{late} of {len(size['clicks'])}"


def _heaviest(size: Size) -> int:
    loads = [seen for load in size["loads"] for seen in _states(load).values()]
    return max(int(seen["view_bytes"]) for seen in [*size["clicks"], *loads])


def _memory(size: Size) -> str:
    found = next(moment for moment in size["memory"] if moment["when"] == "every click")
    return f"{found['rss'] / 1e9:.2f} ({found['uss'] / 1e9:.2f}) GB"


def _together(size: Size) -> str:
    found = size["together"]
    times = f"{found['median_settled_s']:.1f} s ({found['slowest_settled_s']:.1f} s)"
    return f"{times}, {len(found['errors'])} errors"


def _together_server(size: Size) -> str:
    found = size["together"]
    return f"{found['median_server_s']:.1f} s ({found['slowest_server_s']:.1f} s)"


def _most(found: Sequence[dict[str, Any]], name: str) -> str:
    return seconds(max((one[name] for one in found if one[name] is not None), default=None))


def _kilo(found: Sequence[dict[str, Any]]) -> str:
    return f"{max(one['view_bytes'] for one in found) / 1e3:,.0f}" if found else "–"
