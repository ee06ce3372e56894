"""From values to a decision: a threshold, what it flags, where two methods disagree, and the decision as a table."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from jepascore_core.outliers.evaluate import Evaluation
from jepascore_core.outliers.fitting import Judged
from jepascore_core.outliers.rows import Floats, Ints
from jepascore_core.store.exports import disarmed


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What is flagged as an outlier.

    Attributes:
        threshold: Values beyond it are flagged; infinite where all are, or none.
        flag_low: Whether values below it are flagged, else those above.
        inside: Which in-distribution rows are flagged, (N,).
        others: Which of each set of other rows, (M,) each.
    """

    threshold: float
    flag_low: bool
    inside: NDArray[np.bool_] = field(repr=False)
    others: tuple[NDArray[np.bool_], ...] = field(repr=False)


def decide(judged: Judged, share: float, *, flag_low: bool = True) -> Decision:
    """Flag what lies beyond the value that a share of the in-distribution rows lie beyond.

    Args:
        judged: Values of all rows.
        share: Share of the in-distribution rows that may be flagged, %; ties may flag fewer.
        flag_low: Whether low values are outliers, else high ones.

    Returns:
        The decision; a row without a value is not flagged.
    """
    sign = 1.0 if flag_low else -1.0
    ordered = np.sort(sign * judged.values_in[np.isfinite(judged.values_in)])
    flagged = round(len(ordered) * share / 100)
    limit = float(ordered[flagged]) if flagged < len(ordered) else np.inf
    sides = [sign * values < limit for values in (judged.values_in, *judged.values_out)]  # NaN is never below
    return Decision(sign * limit, flag_low, sides[0], tuple(sides[1:]))


def most_outlying(values: Floats, most: int, *, flag_low: bool = True) -> Ints:
    """Places of the rows that are the most outlying, those first; rows without a value are left out."""
    held = np.flatnonzero(np.isfinite(values))
    return held[np.argsort(values[held] if flag_low else -values[held], kind="stable")[:most]]


def disagreements(first: Judged, second: Judged, most: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Rows on which two methods differ most, by their ranks among all rows of all sets.

    Args:
        first: One method's values.
        second: Another's.
        most: Rows of each kind at most.

    Returns:
        Set (0 is the in-distribution one) and place in it, of rows that the first finds outlying and the second does
        not; and the other way round.
    """
    places, gap = _gaps(first, second)
    order = np.argsort(gap, kind="stable")
    outlying = [int(row) for row in order[:most] if gap[row] < 0]
    usual = [int(row) for row in order[::-1][:most] if gap[row] > 0]
    return [places[row] for row in outlying], [places[row] for row in usual]


def percentiles(judged: Judged) -> list[Floats]:
    """Share of all rows of all sets with a lower value, ties half, 0..100, NaN without a value; one array a set."""
    from scipy.stats import rankdata

    sides = (judged.values_in, *judged.values_out)
    joint = np.concatenate(sides)
    found = np.full(len(joint), np.nan)
    held = np.isfinite(joint)
    found[held] = 100 * (rankdata(joint[held]) - 0.5) / max(int(held.sum()), 1)
    return np.split(found, np.cumsum([len(side) for side in sides])[:-1])


def decision_table(evaluation: Evaluation, judged: Judged, decision: Decision) -> pa.Table:
    """The decision, a line for each row.

    Args:
        evaluation: Which rows there are.
        judged: Values of all rows.
        decision: What is flagged.

    Returns:
        Columns ``run``, ``role`` (``in`` or ``out``), ``key``, ``class_name``, ``method``, ``value``, ``flagged``.
    """
    parts = []
    sets = (evaluation.inside, *evaluation.others)
    values = (judged.values_in, *judged.values_out)
    for rows, mine, flagged in zip(sets, values, (decision.inside, *decision.others), strict=True):
        parts.append(
            pa.table({
                "run": pa.array([rows.name] * len(rows), pa.string()),
                "role": pa.array(["in" if rows is evaluation.inside else "out"] * len(rows), pa.string()),
                "key": pa.array(rows.keys, pa.string()),
                "class_name": pa.array(rows.class_names, pa.string()),
                "method": pa.array([judged.method.name] * len(rows), pa.string()),
                "value": pa.array(mine, pa.float64(), from_pandas=True),
                "flagged": pa.array(flagged, pa.bool_()),
            })
        )
    return pa.concat_tables(parts)


def as_csv(table: pa.Table) -> bytes:
    """A table as CSV; text that a spreadsheet would run as a formula is preceded by an apostrophe."""
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(disarmed(table), buffer)
    return buffer.getvalue()


def _gaps(first: Judged, second: Judged) -> tuple[Sequence[tuple[int, int]], Floats]:
    """Set and place of each row, and its percentile under the first less that under the second; 0 without both."""
    pairs = zip(percentiles(first), percentiles(second), strict=True)
    parts = [np.nan_to_num(mine - theirs) for mine, theirs in pairs]
    places = [(number, place) for number, part in enumerate(parts) for place in range(len(part))]
    return places, np.concatenate(parts)
