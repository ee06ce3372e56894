"""The separation table: how far the scores of some runs of one encoder lie from those of the first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jepascore_core.brightness import brightness
from jepascore_core.report.members import Member
from jepascore_core.separation import separation
from jepascore_core.store import Run
from jepascore_core.text import EMPTY, listed


@dataclass(frozen=True)
class Separated:
    """One line of the table; NaN and a dash where a run cannot be compared."""

    name: str
    colour: str
    n: int
    median: float
    low: float
    high: float
    auroc: float = float("nan")
    auroc_low: float = float("nan")
    auroc_high: float = float("nan")
    ks: float = float("nan")
    brightness: float = float("nan")
    direction: str = EMPTY


def separate(members: Sequence[Member]) -> tuple[list[Separated], str]:
    """Compare every run of an encoder with the first.

    Corrected scores are not compared: each run's rest on a Gaussian of its own.

    Args:
        members: Runs with at least one score.

    Returns:
        The table, and the name of the run that the others are compared with: "" where there is nothing to compare.
    """
    comparable = [member for member in members if len(member.scores) > 1 and member.rule.convention != "corrected"]
    if len(comparable) < 2:
        return [_spread(member) for member in members], ""
    reference, *others = comparable
    lines = [_compared(reference, member) if member in others else _spread(member) for member in members]
    return lines, reference.name


def verdict(table: Sequence[Separated], reference: str) -> str:
    """The measured directions in words.

    Args:
        table: From ``separate``.
        reference: From ``separate``.

    Returns:
        One sentence, or "" where nothing was compared.
    """
    words = []
    for way in ("lower", "higher", "not separated"):
        names = [line.name for line in table if line.direction == way]
        if names:
            verb = "cannot be told from" if way[0] == "n" else f"score{'s' * (len(names) == 1)} {way} than"
            words.append(f"{listed(names)} {verb} {reference}")
    return f"Measured, not assumed: {'; '.join(words)}." if words else ""


def _spread(member: Member) -> Separated:
    """Median and spread of a run."""
    low, median, high = (float(value) for value in np.quantile(member.values, [0.05, 0.5, 0.95]))
    return Separated(member.name, member.colour, len(member.scores), median, low, high)


def _compared(reference: Member, member: Member) -> Separated:
    """The same, and how far it lies from the reference."""
    found = separation(reference.values, member.values)
    return replace(
        _spread(member), auroc=found.auroc, auroc_low=found.low, auroc_high=found.high, ks=found.ks,
        direction=found.direction, brightness=_by_brightness(reference.run, member.run),
    )  # fmt: skip


def _by_brightness(reference: Run, other: Run) -> float:
    """AUROC of mean brightness, whichever way round separates better."""
    a, b = brightness(reference), brightness(other)
    if min(len(a), len(b)) < 2:
        return float("nan")
    auroc = separation(a, b).auroc
    return max(auroc, 1 - auroc)
