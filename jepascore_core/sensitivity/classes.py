"""Leave one class out: each class in turn plays the outliers, and all others are in-distribution."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepascore_core.outliers import Method, OutlierError, Rows, cross_fit, methods, possible
from jepascore_core.outliers.evaluate import reason
from jepascore_core.outliers.metrics import Interval, placements
from jepascore_core.sensitivity.estimates import apart, around, directed
from jepascore_core.text import count, plural

LEAST_ROWS = 5  # of a class that is left out
MOST_CLASSES = 20  # each of them costs a fit of every method


@dataclass(frozen=True, slots=True)
class ClassFinding:
    """How one method tells one class from all others.

    Attributes:
        class_name: The class that was left out.
        method: Who judges.
        n_in: Rows of the other classes.
        n_out: Rows of the class.
        auroc: Of the other classes over this one.
        direction: Whether lower values mean the class that was left out: ``holds``, ``inverted`` or ``undecided``.
        rows: In words, which rows fitted and which were judged.
        warnings: What a reader must know.
    """

    class_name: str
    method: Method
    n_in: int
    n_out: int
    auroc: Interval
    direction: str
    rows: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MacroMean:
    """The mean AUROC of one method over the classes.

    Attributes:
        method: Who judges.
        classes: Classes behind the mean.
        auroc: The mean; its interval allows for other images of these classes, not for other classes.
        direction: As of a class.
    """

    method: Method
    classes: int
    auroc: Interval
    direction: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What leaving each class out showed.

    Attributes:
        findings: One for each class and method.
        macro: One for each method that judged every class.
        left_out: Why not, by the title of each method that is not possible, and its class where it is one alone.
        notes: What a reader must know of the classes.
    """

    findings: tuple[ClassFinding, ...]
    macro: tuple[MacroMean, ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]


def leave_one_out(
    rows: Rows,
    *,
    wanted: Sequence[Method] | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
    on_step: Callable[[int, int, str], None] | None = None,
) -> LeftOut:
    """Let each class play the outliers.

    Methods that learn see no row of the class that is left out, and are cross-fitted on the rest.

    Args:
        rows: Rows of a labelled run.
        wanted: Methods; None takes all of ``outliers.methods``.
        classes: Classes to leave out in turn; None takes the largest, at most ``MOST_CLASSES``.
        seed: Of the folds and the models.
        on_step: Called with steps done, steps in all, and what is next.

    Returns:
        What was found.

    Raises:
        OutlierError: The rows are of fewer than two classes with enough rows, or a class is unknown.
    """
    chosen, notes = _chosen(rows, classes)
    labelled = rows.take(rows.class_names != "")
    able, left_out = possible(wanted or methods(), [labelled])
    findings: list[ClassFinding] = []
    macro: list[MacroMean] = []
    for number, method in enumerate(able):
        influence, values, missed = np.zeros(len(labelled)), list[float](), False
        for step, name in enumerate(chosen):
            if on_step is not None:
                on_step(number * len(chosen) + step, len(able) * len(chosen), f"{method.title}, without {name}")
            out = labelled.class_names == name
            try:
                found, added = _class_finding(method, labelled, out, name, seed)
            except OutlierError as error:
                left_out[f"{method.title}, without {name}"] = reason(method, error)
                missed = True
                continue
            findings.append(found)
            values.append(found.auroc.value)
            influence += added
        if values and not missed:
            mean = _macro(values, influence)
            macro.append(MacroMean(method, len(values), mean, directed(mean)))
    if on_step is not None:
        on_step(len(able) * len(chosen), len(able) * len(chosen), "")
    return LeftOut(tuple(findings), tuple(macro), left_out, notes)


def _chosen(rows: Rows, classes: Sequence[str] | None) -> tuple[list[str], tuple[str, ...]]:
    """Classes to leave out, and what must be said of them."""
    names, sizes = np.unique(rows.class_names[rows.class_names != ""].astype(str), return_counts=True)
    size_of = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    if classes is not None and (unknown := [name for name in classes if name not in size_of]):
        raise OutlierError(f"{rows.name} has no scored image of class {unknown[0]!r}.")
    asked = list(size_of) if classes is None else list(dict.fromkeys(classes))
    large = [name for name in asked if size_of[name] >= LEAST_ROWS]
    notes = []
    if len(large) < len(asked):
        notes.append(f"{_classes(len(asked) - len(large))} not left out, for want of {LEAST_ROWS} images.")
    if len(size_of) < 2 or not large:
        raise OutlierError(
            f"Leaving one class out needs at least two classes, one of them of {LEAST_ROWS} images; {rows.name} has "
            f"{'1 class' if len(size_of) == 1 else f'{count(len(size_of))} classes'}."
        )
    if classes is None and len(large) > MOST_CLASSES:
        kept = set(sorted(large, key=lambda name: (-size_of[name], name))[:MOST_CLASSES])
        notes.append(f"Of {count(len(large))} classes the {MOST_CLASSES} largest are left out in turn.")
        large = [name for name in large if name in kept]
    return large, tuple(notes)


def _classes(n: int) -> str:
    return "1 class is" if n == 1 else f"{count(n)} classes are"


def _class_finding(
    method: Method, rows: Rows, out: NDArray[np.bool_], name: str, seed: int
) -> tuple[ClassFinding, NDArray[np.float64]]:
    """How a method tells one class, and what each row adds to the deviation of the AUROC, (N,)."""
    inside, other = rows.take(~out), rows.take(out)
    judged = cross_fit(method, inside, [other], seed=seed)
    held = np.isfinite(judged.values_in), np.isfinite(judged.values_out[0])
    values = judged.values_in[held[0]], judged.values_out[0][held[1]]
    if min(map(len, values)) < 2:
        raise OutlierError(f"it gives {plural(min(map(len, values)), 'row')} of a side a finite value")
    measured = apart(*values)
    added = np.zeros(len(rows))
    sides = zip(placements(*values), held, (~out, out), strict=True)
    for shares, mask, side in sides:
        added[np.flatnonzero(side)[mask]] = (shares - measured.auroc.value) / len(shares)
    found = ClassFinding(
        name, method, len(values[0]), len(values[1]), measured.auroc, measured.direction, judged.rows, judged.warnings
    )
    return found, added


def _macro(values: Sequence[float], influence: NDArray[np.float64]) -> Interval:
    """Mean over classes; a row plays an outlier once and in-distribution else, which its influence adds up."""
    varying = influence / len(values)
    n = len(varying)
    return around(float(np.mean(values)), float((varying**2).sum()) * n / max(n - 1, 1))
