"""What the experiments of the sensitivity page found, in sentences that the numbers support; Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pages.components.text import count, listed, md, number

Row = Mapping[Any, Any]

WAYS = {"holds": "falls", "inverted": "rises", "undecided": "does not change measurably"}


def interval(row: Row) -> str:
    """AUROC with its interval."""
    return f"{number(row['auroc'], 2)}, {number(row['auroc_low'], 2)}–{number(row['auroc_high'], 2)}"


def of_doses(findings: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """What the first method does at the greatest severity of each kind, and which method notices most there."""
    first = next(iter(titles))
    own, best = [], []
    for kind in dict.fromkeys(findings["kind"]):
        mine = _records(findings, kind=kind)
        mine = [row for row in mine if row["severity"] == max(one["severity"] for one in mine)]
        own += [
            f"**{WAYS[row['direction']]}** under {kind} {row['severity']} ({interval(row)})"
            for row in mine if row["method"] == first
        ]  # fmt: skip
        top = max(mine, key=lambda row: row["auroc"])
        best.append(f"{kind}, {md(titles[top['method']])} {number(top['auroc'], 2)}")
    told = (
        f"At the greatest severity {md(titles[first])} {'; '.join(own)}: AUROC of clean over corrupted images. "
        if own
        else ""
    )
    return told + (f"Highest there: {'; '.join(best)}." if len(titles) > 1 else "")


def of_classes(findings: pd.DataFrame, macro: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """How often the first method's direction holds."""
    first = next(iter(titles))
    ways = [row["direction"] for row in _records(findings, method=first)]
    told = (
        f"A left-out class scores lower than the others under {md(titles[first])} in **{count(ways.count('holds'))} of "
        f"{count(len(ways))}** classes, higher in {count(ways.count('inverted'))}, and cannot be told apart in "
        f"{count(ways.count('undecided'))}."
    )
    means = {row["method"]: row for row in macro.to_dict("records")}
    if first in means:
        told += f" Mean AUROC {interval(means[first])}"
        top = max(means.values(), key=lambda row: row["auroc"])
        rival = top["method"] != first and top["method"] in titles
        told += f"; highest, {md(titles[top['method']])} {interval(top)}." if rival else "."
    return told


def of_labels(findings: pd.DataFrame, titles: Mapping[str, str], controls: Sequence[str]) -> str:
    """Which method finds wrong labels best, beside the control."""
    shares = sorted(set(findings["share"]))
    mine = _records(findings, share=shares[len(shares) // 2])
    seeing = [row for row in mine if row["method"] not in controls]
    told = ""
    if seeing:
        best = max(seeing, key=lambda row: row["auroc"])
        told = (
            f"Of {number(100 * best['share'], 0)} % shuffled labels **{md(titles[best['method']])}** finds the wrong "
            f"ones best (AUROC {interval(best)}). "
        )
    for row in mine:
        if row["method"] in controls:
            told += f"Plain JEPA-SCORE does not see labels: it is the control, at {interval(row)}."
    return told


def of_depth(findings: pd.DataFrame, titles: Mapping[str, str], names: tuple[str, str], total: int) -> str:
    """At which layer the first method tells the images apart best, and whether its direction changes."""
    first = next(iter(titles))
    mine = _records(findings, method=first)
    far = max(mine, key=lambda row: abs(row["auroc"] - 0.5))
    inside, other = (md(name) for name in names)
    told = (
        [
            f"{md(titles[first])} tells {other} from {inside} most clearly at **layer {far['layer']} of {total}** "
            f"(AUROC {interval(far)})."
        ]
        if len(mine) > 1
        else [f"{md(titles[first])} of {inside} over {other} at layer {far['layer']}: AUROC {interval(far)}."]
    )
    lower, higher = (
        [count(row["layer"]) for row in mine if row["direction"] == way] for way in ("holds", "inverted")
    )  # fmt: skip
    if lower and higher:
        told.append(
            f"Its direction changes: {other} scores lower at layer {listed(lower)}, higher at layer {listed(higher)}."
        )
    if len(mine) < total:
        told.append(f"{count(len(mine))} of {total} layers have been scored on both.")
    return " ".join(told)


def _records(findings: pd.DataFrame, **wanted: Any) -> list[Row]:
    """Findings with some values, one after the other."""
    records = findings.to_dict("records")
    return [row for row in records if all(row[name] == value for name, value in wanted.items())]
