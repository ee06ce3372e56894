"""From scores to decisions: which images are outliers, by JEPA-SCORE, its variants and rivals, all judged fairly.

``rows`` holds what judging needs of a run (``from_runs`` reads it), ``variants`` re-scores stored spectra,
``baselines`` learn from rows, ``methods`` is the table of all of them. ``fitting`` is the way to fit: a fitted model
refuses rows that it was fitted to. ``metrics`` measures, ``evaluate`` compares every method, ``sweep`` shows where the
signal lies.
"""

from jepascore_core.outliers.deciding import (
    Decision,
    as_csv,
    decide,
    decision_table,
    disagreements,
    most_outlying,
    percentiles,
)
from jepascore_core.outliers.evaluate import Evaluation, Finding, as_facts, check, concluded, evaluate, reason
from jepascore_core.outliers.fitting import Fitted, Judged, LeakError, cross_fit
from jepascore_core.outliers.from_runs import rows_of, rows_of_runs, same_encoder
from jepascore_core.outliers.methods import JEPA_SCORE, Method, method_named, methods, possible
from jepascore_core.outliers.metrics import Interval, Metrics, metrics, roc
from jepascore_core.outliers.rows import OutlierError, Rows, make_rows
from jepascore_core.outliers.sweep import ChosenDrop, Sweeps, sweeps
from jepascore_core.outliers.variants import DROP_TOP

__all__ = [
    "DROP_TOP",
    "JEPA_SCORE",
    "ChosenDrop",
    "Decision",
    "Evaluation",
    "Finding",
    "Fitted",
    "Interval",
    "Judged",
    "LeakError",
    "Method",
    "Metrics",
    "OutlierError",
    "Rows",
    "Sweeps",
    "as_csv",
    "as_facts",
    "check",
    "concluded",
    "cross_fit",
    "decide",
    "decision_table",
    "disagreements",
    "evaluate",
    "make_rows",
    "method_named",
    "methods",
    "metrics",
    "most_outlying",
    "percentiles",
    "possible",
    "reason",
    "roc",
    "rows_of",
    "rows_of_runs",
    "same_encoder",
    "sweeps",
]
