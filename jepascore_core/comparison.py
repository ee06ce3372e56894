"""Encoders side by side over the same images: every pair's agreement, and a table of classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from jepascore_core import agreement
from jepascore_core.agreement import Estimate, Floats, Overlap
from jepascore_core.store import Common, Run

FIRST_N = 5  # images at each end, as in Figure 1 of the paper
_EXCESSES = {"excess": "both", "excess_least": "least", "excess_most": "most"}


@dataclass(frozen=True, slots=True)
class Pair:
    """How far the orders of two encoders agree; whichever is named first.

    Attributes:
        spearman: Over all images.
        kendall: Over all images, or a sample of them; see its ``n``.
        spearman_in_class: Within classes, all of them together; the same as ``spearman`` without classes.
        kendall_in_class: Within classes, all of them together.
        of_classes: Spearman's correlation within each class, low and high, (C,) each.
    """

    spearman: Estimate
    kendall: Estimate
    spearman_in_class: Estimate
    kendall_in_class: Estimate
    of_classes: tuple[Floats, Floats, Floats]


def correlations(common: Common, first: int, second: int) -> Pair:
    """Rank correlations of two encoders.

    Args:
        common: The images.
        first: One encoder, by its number.
        second: The other.

    Returns:
        Over all images, and within classes.
    """
    run = common.in_run[first], common.in_run[second]
    classes = common.in_class[first], common.in_class[second]
    rho, tau = (measure(*run).together() for measure in (agreement.spearman, agreement.kendall))
    if not common.has_classes:
        return Pair(rho, tau, rho, tau, agreement.spearman(*classes).of_classes())
    within = agreement.spearman(*classes)
    return Pair(rho, tau, within.together(), agreement.kendall(*classes).together(), within.of_classes())


def shared(common: Common, first: int, second: int, n: int) -> Overlap:
    """Overlap of the extremes of two encoders; see ``agreement.overlap``."""
    return agreement.overlap(common.in_class[first], common.in_class[second], n)


def class_table(common: Common, pair: Pair, ends: Overlap) -> pd.DataFrame:
    """Agreement of two encoders within each class.

    Args:
        common: The images.
        pair: What ``correlations`` says of the two encoders.
        ends: What ``shared`` says of them.

    Returns:
        One row a class that has images: class_name, images, spearman, spearman_low, spearman_high, n (at each end; at
        most half of the class), chance (shared by chance), least, most (shared), p_least, p_most (chance of so many
        or more).
    """
    columns: dict[str, Any] = {"class_name": list(common.class_names), "images": ends.sizes}
    columns |= dict(zip(("spearman", "spearman_low", "spearman_high"), pair.of_classes, strict=True))
    columns |= {name: getattr(ends, name) for name in ("n", "chance", "least", "most", "p_least", "p_most")}
    frame = pd.DataFrame(columns)
    return frame[frame["images"] > 0].reset_index(drop=True)


def strangest(common: Common, first: int, second: int, most: int, *, in_class: bool = True) -> tuple[np.ndarray, ...]:
    """Images that the first of two encoders finds likelier, and those that the second does; see ``disagreements``."""
    ranks = common.in_class if in_class else common.in_run
    return agreement.disagreements(ranks[first], ranks[second], most)


def compared(runs: Sequence[Run], common: Common, n: int, *, most: int = 10) -> dict[str, Any]:
    """Everything that a comparison says, for programs.

    Args:
        runs: The runs, M of them.
        common: Their images.
        n: Images at each end of each class.
        most: Largest disagreements to name.

    Returns:
        images, n, runs, and pairs: the correlations of ``Pair``; ``shared`` (sums over classes of the images looked at,
        of those shared and of those shared by chance, at one end; the excess over chance at both ends together, and at
        each); ``classes`` as ``class_table``, with Kendall's τ too; and the keys of the largest disagreements.
    """
    numbers = combinations(range(len(runs)), 2) if len(common) else ()
    about = [
        {"name": run.name, "encoder": run.meta["encoder"]["id"], "images": len(held)}
        for run, held in zip(runs, common.rankings, strict=True)
    ]
    rows = [{"first": runs[i].name, "second": runs[j].name} | _compared_pair(common, i, j, n, most) for i, j in numbers]
    return {"images": len(common), "n": n, "runs": about, "pairs": rows}


def _compared_pair(common: Common, i: int, j: int, n: int, most: int) -> dict[str, Any]:
    """What ``compared`` says of one pair."""
    pair, ends = correlations(common, i, j), shared(common, i, j, n)
    table = class_table(common, pair, ends)
    for name, values in zip(
        ("kendall", "kendall_low", "kendall_high"),
        agreement.kendall(common.in_class[i], common.in_class[j], most=None).of_classes(),
        strict=True,
    ):
        table[name] = values[ends.sizes > 0]
    first, second = (common.rows(i, images)["key"].tolist() for images in strangest(common, i, j, most))
    sums = {name: float(getattr(ends, name).sum()) for name in ("n", "chance", "least", "most")}
    excesses = {name: asdict(ends.excess(end)) for name, end in _EXCESSES.items()}
    measured = {name: value for name, value in asdict(pair).items() if name != "of_classes"}
    rest = {"classes": table.to_dict("records"), "first_likelier": first, "second_likelier": second}
    return measured | {"shared": sums | excesses} | rest


def interval(estimate: Mapping[str, Any]) -> str:
    """An estimate as text, from a mapping whose first entry is the value, with ``low`` and ``high``.

    Example:
        >>> interval({"value": -0.5, "low": -0.61, "high": -0.4})
        '-0.50 (-0.61 to -0.40)'
    """
    value, low, high = (float(estimate[name]) for name in (next(iter(estimate)), "low", "high"))
    if math.isnan(value):
        return "undefined"
    digits = 3 if high - low < 0.02 else 2
    return f"{value:.{digits}f}" + ("" if math.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})")
