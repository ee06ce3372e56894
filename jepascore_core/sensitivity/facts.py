"""Findings for programs: plain dicts, the same numbers as the page shows."""

from collections.abc import Sequence
from typing import Any

from jepascore_core.datasets.corruptions import STRENGTHS
from jepascore_core.outliers.metrics import Interval
from jepascore_core.sensitivity.classes import LeftOut
from jepascore_core.sensitivity.depth import LayerFinding
from jepascore_core.sensitivity.dose import Dose
from jepascore_core.sensitivity.labels import LabelFinding

Facts = list[dict[str, Any]]


def dose_facts(doses: Sequence[Dose]) -> Facts:
    """Findings of a dose-response.

    Of each dose: ``kind``, ``severity``, ``strength``, ``method``, ``title``, ``n``, ``change``, ``change_sd``,
    ``fell``, ``auroc`` (each with ``_low`` and ``_high``), ``direction``, ``rows``, ``warnings``.
    """
    return [
        {"kind": dose.kind, "severity": dose.severity, "strength": STRENGTHS[dose.kind][dose.severity - 1]}
        | {"method": dose.method.name, "title": dose.method.title, "n": dose.n}
        | _spread("change", dose.change) | _spread("change_sd", dose.change_sd)
        | _spread("fell", dose.fell) | _spread("auroc", dose.auroc)
        | {"direction": dose.direction, "rows": dose.rows, "warnings": list(dose.warnings)}
        for dose in doses
    ]  # fmt: skip


def class_facts(found: LeftOut) -> Facts:
    """Findings of leaving one class out.

    Of each class and method: ``class_name``, ``method``, ``title``, ``n_in``, ``n_out``, ``auroc`` (with ``_low``
    and ``_high``), ``direction``, ``rows``, ``warnings``.
    """
    return [
        {"class_name": one.class_name, "method": one.method.name, "title": one.method.title}
        | {"n_in": one.n_in, "n_out": one.n_out} | _spread("auroc", one.auroc)
        | {"direction": one.direction, "rows": one.rows, "warnings": list(one.warnings)}
        for one in found.findings
    ]  # fmt: skip


def macro_facts(found: LeftOut) -> Facts:
    """Means over the classes that were left out.

    Of each method: ``method``, ``title``, ``classes``, ``auroc`` (with ``_low`` and
    ``_high``), ``direction``.
    """
    return [
        {"method": one.method.name, "title": one.method.title, "classes": one.classes}
        | _spread("auroc", one.auroc) | {"direction": one.direction}
        for one in found.macro
    ]  # fmt: skip


def label_facts(findings: Sequence[LabelFinding]) -> Facts:
    """Findings of label noise.

    Of each share and method: ``share``, ``wrong``, ``n``, ``draws``, ``method``, ``title``, ``control``, ``auroc``
    (with ``_low`` and ``_high``), ``direction``.
    """
    return [
        {"share": one.share, "wrong": one.wrong, "n": one.n, "draws": one.draws, "method": one.method.name}
        | {"title": one.method.title, "control": one.method.control}
        | _spread("auroc", one.auroc) | {"direction": one.direction}
        for one in findings
    ]  # fmt: skip


def layer_facts(findings: Sequence[LayerFinding]) -> Facts:
    """Findings layer by layer.

    Of each layer and method: ``layer``, ``method``, ``title``, ``n_in``, ``n_out``, ``auroc`` (with ``_low`` and
    ``_high``), ``direction``, ``mean_in``, ``mean_out`` (nats for each direction).
    """
    return [
        {"layer": one.layer, "method": one.method.name, "title": one.method.title, "n_in": one.n_in}
        | {"n_out": one.n_out} | _spread("auroc", one.auroc)
        | {"direction": one.direction, "mean_in": one.mean_in, "mean_out": one.mean_out}
        for one in findings
    ]  # fmt: skip


def _spread(name: str, interval: Interval) -> dict[str, float]:
    """A number with both ends of its interval."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
