"""Every method on the same rows: which tells in-distribution images from others, in which direction, at what cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jepascore_core.outliers import variants
from jepascore_core.outliers.fitting import Judged, cross_fit
from jepascore_core.outliers.methods import JEPA_SCORE, Method, methods, possible
from jepascore_core.outliers.metrics import Metrics, delong, holm, metrics, resamples
from jepascore_core.outliers.rows import Floats, OutlierError, Rows
from jepascore_core.text import count, listed, plural

LEAST_ROWS = 2
_FEW_ROWS = 30


@dataclass(frozen=True, slots=True)
class Finding:
    """How one method tells one set of other rows from the in-distribution ones.

    Attributes:
        out: What the other rows are called.
        method: The method.
        metrics: AUROC, AUPR, FPR95 with intervals, direction, counts.
        difference: AUROC minus that of JEPA-SCORE on the same rows; NaN for JEPA-SCORE itself, or without it.
        p: Of that difference, DeLong's paired test, Holm-corrected over the methods; NaN likewise.
        fit_s: Seconds to fit.
        judge_s: Seconds to judge the rows of both sides.
        rows: In words, which rows fitted and which were judged.
        notes: What the method chose.
        warnings: What a reader must know.
    """

    out: str
    method: Method
    metrics: Metrics
    difference: float
    p: float
    fit_s: float
    judge_s: float
    rows: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        inside: In-distribution rows.
        others: Sets of other rows.
        judged: Values of every row by method name, the methods in their order.
        findings: One for each set of other rows and method.
        left_out: Why not, by the title of each method that is not possible.
        warnings: What a reader must know of the rows themselves.
    """

    inside: Rows
    others: tuple[Rows, ...]
    judged: Mapping[str, Judged] = field(repr=False)
    findings: tuple[Finding, ...]
    left_out: Mapping[str, str]
    warnings: tuple[str, ...]

    def finding(self, out: int, method: str) -> Finding | None:
        """What was found of one set and one method; None where there is nothing."""
        name = self.others[out].name
        return next((found for found in self.findings if (found.out, found.method.name) == (name, method)), None)

    def of_out(self, out: int) -> list[Finding]:
        """What was found of one set of other rows, in the order of the methods."""
        return [found for found in self.findings if found.out == self.others[out].name]


def evaluate(
    inside: Rows,
    others: Sequence[Rows],
    *,
    wanted: Sequence[Method] | None = None,
    drop_top: float = variants.DROP_TOP,
    seed: int = 0,
    most_resamples: int | None = None,
    on_method: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Judge rows by every method that is possible, and measure how well each tells the sets apart.

    Args:
        inside: In-distribution rows.
        others: Sets of other rows, of distinct names.
        wanted: Methods; None takes all of ``methods``.
        drop_top: Of the tail score, %, where ``wanted`` is None.
        seed: Of folds, models and resamples.
        most_resamples: Most bootstrap resamples; None chooses by the number of rows.
        on_method: Called with methods done, methods in all and the title of the next.

    Returns:
        What was found.

    Raises:
        OutlierError: There are too few rows on a side, two sets share a name, or the rows are of several encoders.
    """
    check(inside, others)
    able, left_out = possible(wanted or methods(drop_top=drop_top), [inside, *others])
    judged: dict[str, Judged] = {}
    for number, method in enumerate(able):
        if on_method is not None:
            on_method(number, len(able), method.title)
        try:
            judged[method.name] = cross_fit(method, inside, others, seed=seed)
        except OutlierError as error:
            left_out[method.title] = reason(method, error)
    if on_method is not None:
        on_method(len(able), len(able), "")
    return concluded(inside, others, judged, left_out, seed=seed, most_resamples=most_resamples)


def concluded(
    inside: Rows,
    others: Sequence[Rows],
    judged: Mapping[str, Judged],
    left_out: Mapping[str, str],
    *,
    seed: int = 0,
    most_resamples: int | None = None,
) -> Evaluation:
    """Measure what judged rows say; ``evaluate`` without the judging.

    Args:
        inside: In-distribution rows.
        others: Sets of other rows.
        judged: Values by method name; see ``fitting.cross_fit``.
        left_out: Why not, by the title of each method that is not possible.
        seed: Of the resamples.
        most_resamples: Most bootstrap resamples; None chooses by the number of rows.

    Returns:
        What was found.
    """
    findings: list[Finding] = []
    missed = dict(left_out)
    for number, rows in enumerate(others):
        options = {} if most_resamples is None else {"most": most_resamples}
        weights = resamples(len(inside), len(rows), seed=seed, **options)
        mine = [_found(inside, rows, number, held, weights, missed) for held in judged.values()]
        findings += _tested([one for one in mine if one is not None], number, judged)
    return Evaluation(inside, tuple(others), dict(judged), tuple(findings), missed, tuple(_warnings(inside, others)))


def check(inside: Rows, others: Sequence[Rows]) -> None:
    """Refuse sets of rows that cannot be compared.

    Args:
        inside: In-distribution rows.
        others: Sets of other rows.

    Raises:
        OutlierError: There is no other set, too few rows on a side, two sets share a name, or the rows are of several
            encoders.
    """
    if not others:
        raise OutlierError("There is nothing to tell from the in-distribution rows: give at least one other run.")
    names = [rows.name for rows in others]
    if len(set(names)) < len(names):
        raise OutlierError(f"Two sets of other rows are called {max(names, key=names.count)!r}.")
    for rows in (inside, *others):
        if len(rows) < LEAST_ROWS:
            raise OutlierError(f"{rows.name} has {plural(len(rows), 'scored image')}; {LEAST_ROWS} are needed.")
        if rows.encoder != inside.encoder:
            raise OutlierError(f"{inside.name} and {rows.name} are of different encoders, whose values share no scale.")
        for what in ("embeddings", "spectra"):
            mine, theirs = getattr(inside, what), getattr(rows, what)
            if mine is not None and theirs is not None and mine.shape[1] != theirs.shape[1]:
                raise OutlierError(
                    f"{inside.name} and {rows.name} are of different encoders: their {what} have D = {mine.shape[1]} "
                    f"and {theirs.shape[1]}."
                )


def reason(method: Method, error: Exception) -> str:
    """Why a method is left out, in words that follow its title."""
    return str(error).removeprefix(f"{method.title} is not possible: ").rstrip(".")


def as_facts(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Findings for programs.

    Args:
        evaluation: What was found.

    Returns:
        One dict for each set of other rows and method: ``in``, ``out``, ``method``, ``title``, ``auroc``, ``aupr`` and
        ``fpr95`` (each with ``_low`` and ``_high``), ``direction``, ``n_in``, ``n_out``, ``difference`` and ``p``
        (against JEPA-SCORE), ``fit_s``, ``judge_s``, ``resamples``, ``rows``, ``notes``, ``warnings``, and
        ``drop_top`` of the tail score.
    """
    facts = []
    for found in evaluation.findings:
        measured = found.metrics
        row: dict[str, Any] = {"in": evaluation.inside.name, "out": found.out, "method": found.method.name}
        row["title"] = found.method.title
        for name in ("auroc", "aupr", "fpr95"):
            interval = getattr(measured, name)
            row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        row |= {"direction": measured.direction, "n_in": measured.n_in, "n_out": measured.n_out}
        row |= {name: getattr(found, name) for name in ("difference", "p", "fit_s", "judge_s")}
        row |= {"resamples": measured.resamples, "rows": found.rows, "notes": list(found.notes)}
        row["warnings"] = list(found.warnings)
        if found.method.drop_top is not None:
            row["drop_top"] = found.method.drop_top
        facts.append(row)
    return facts


def _found(
    inside: Rows,
    rows: Rows,
    number: int,
    judged: Judged,
    weights: tuple[Any, Any],
    missed: dict[str, str],
) -> Finding | None:
    """What one method says of one set, not yet tested against JEPA-SCORE; None where too few rows have a value."""
    values = judged.values_in, judged.values_out[number]
    held = np.isfinite(values[0]), np.isfinite(values[1])
    counts = [int(mask.sum()) for mask in held]
    if min(counts) < LEAST_ROWS:
        lacking = inside if counts[0] < LEAST_ROWS else rows
        missed[judged.method.title] = f"it gives {plural(min(counts), 'row')} of {lacking.name} a finite value"
        return None
    whole = counts == [len(values[0]), len(values[1])]
    kept = weights if whole else tuple(part[mask] for part, mask in zip(weights, held, strict=True))
    measured = metrics(values[0][held[0]], values[1][held[1]], (kept[0], kept[1]))
    told = list(judged.warnings)
    if not whole:
        without = [f"{count(len(mask) - n)} of {name}" for mask, n, name in
                   zip(held, counts, (inside.name, rows.name), strict=True) if n < len(mask)]  # fmt: skip
        told.append(f"Rows without a finite value are left out: {listed(without)}.")
    if measured.separated:
        told.append(
            "Every row of one side lies beyond every row of the other. The interval allows for the rows that were not "
            "seen; that of AUPR does not."
        )
    return Finding(
        rows.name, judged.method, measured, float("nan"), float("nan"), judged.fit_s,
        judged.judge_s[0] + judged.judge_s[number + 1], judged.rows, judged.notes, tuple(told),
    )  # fmt: skip


def _tested(findings: Sequence[Finding], number: int, judged: Mapping[str, Judged]) -> list[Finding]:
    """Findings of one set, each tested against JEPA-SCORE on the rows that both gave a value."""
    base = judged.get(JEPA_SCORE)
    if base is None or all(found.method.name != JEPA_SCORE for found in findings):
        return list(findings)
    differences: dict[str, tuple[float, float]] = {}
    for found in findings:
        if found.method.name == JEPA_SCORE:
            continue
        held = judged[found.method.name]
        pairs = [_both(held.values_in, base.values_in), _both(held.values_out[number], base.values_out[number])]
        if min(len(side[0]) for side in pairs) >= LEAST_ROWS:
            (mine_in, base_in), (mine_out, base_out) = pairs
            differences[found.method.name] = delong((mine_in, mine_out), (base_in, base_out))
    corrected = holm({name: p for name, (_, p) in differences.items()})
    return [
        replace(found, difference=differences[found.method.name][0], p=corrected[found.method.name])
        if found.method.name in differences
        else found
        for found in findings
    ]


def _both(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """The rows to which both methods gave a finite value."""
    held = np.isfinite(first) & np.isfinite(second)
    return first[held], second[held]


def _warnings(inside: Rows, others: Sequence[Rows]) -> list[str]:
    """What a reader must know of the rows themselves."""
    told = []
    for rows in (inside, *others):
        if rows.total > len(rows):
            told.append(
                f"Of the {count(rows.total)} rows of {rows.name}, a seeded sample of {count(len(rows))} is used."
            )
        if len(rows) < _FEW_ROWS:
            told.append(f"{rows.name} has {plural(len(rows), 'row')}: intervals of so few rows are rough.")
    for rows in others:
        shared = int(np.isin(rows.identities, inside.identities).sum())
        if shared:
            told.append(
                f"{plural(shared, 'image')} of {rows.name} {'is' if shared == 1 else 'are'} also in {inside.name}: "
                "in-distribution and not at the same time."
            )
    return told
