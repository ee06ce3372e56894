"""The score layer by layer: at which depth does it tell one set of images from another?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jepascore_core.outliers import Method, OutlierError, Rows, cross_fit, methods, possible
from jepascore_core.outliers.evaluate import reason
from jepascore_core.outliers.methods import eq5
from jepascore_core.outliers.metrics import Interval
from jepascore_core.sensitivity.dose import pairs
from jepascore_core.sensitivity.estimates import LEAST, apart, paired_apart


@dataclass(frozen=True, slots=True)
class LayerFinding:
    """How one method tells two sets of images at one layer.

    Attributes:
        layer: Its number, from 1.
        method: Who judges.
        n_in: In-distribution images.
        n_out: Others.
        auroc: Of in-distribution images over others.
        direction: Whether lower values mean the others: ``holds``, ``inverted`` or ``undecided``.
        mean_in: Mean JEPA-SCORE of the in-distribution images divided by the rank, nats for each direction.
        mean_out: The same of the others.
    """

    layer: int
    method: Method
    n_in: int
    n_out: int
    auroc: Interval
    direction: str
    mean_in: float
    mean_out: float


def over_depth(
    layers: Mapping[int, tuple[Rows, Rows]],
    *,
    paired: bool = False,
    wanted: Sequence[Method] | None = None,
    seed: int = 0,
) -> tuple[list[LayerFinding], dict[str, str]]:
    """Tell two sets of images apart at each layer.

    Args:
        layers: In-distribution rows and others, by number of the layer; both of the same layer.
        paired: The others are the same images, corrupted: rows pair by key, and so does the interval.
        wanted: Methods; None takes all of ``outliers.methods``.
        seed: Of the folds and the models.

    Returns:
        One finding for each layer and method, layers ascending, and why not, by method and layer.

    Raises:
        OutlierError: There is no layer.
    """
    if not layers:
        raise OutlierError("No layer has been scored on both sets of images.")
    found: list[LayerFinding] = []
    left_out: dict[str, str] = {}
    for layer, (inside, other) in sorted(layers.items()):
        if paired:
            places, other = pairs(inside, other)
            inside = inside.take(places)
        able, why = possible(wanted or methods(), [inside, other])
        left_out |= {f"{title}, layer {layer}": words for title, words in why.items()}
        for method in able:
            try:
                found.append(_finding(layer, method, inside, other, paired, seed))
            except OutlierError as error:
                left_out[f"{method.title}, layer {layer}"] = reason(method, error)
    return found, left_out


def _finding(layer: int, method: Method, inside: Rows, other: Rows, paired: bool, seed: int) -> LayerFinding:
    """How one method does at one layer."""
    judged = cross_fit(method, inside, [other], seed=seed)
    values_in, values_out = judged.values_in, judged.values_out[0]
    held_in, held_out = np.isfinite(values_in), np.isfinite(values_out)
    if paired:
        held_in = held_out = held_in & held_out
    values_in, values_out = values_in[held_in], values_out[held_out]
    if min(len(values_in), len(values_out)) < LEAST:
        raise OutlierError("it gives too few images a finite value")
    measured = (paired_apart if paired else apart)(values_in, values_out)
    means = [_mean(rows) for rows in (inside, other)]
    return LayerFinding(
        layer, method, len(values_in), len(values_out), measured.auroc, measured.direction, means[0], means[1]
    )


def _mean(rows: Rows) -> float:
    """Mean score divided by the rank; NaN where nobody knows the rank."""
    dim = rows.spectra.shape[1] if rows.spectra is not None else 0
    scores = eq5(rows)
    scores = scores[np.isfinite(scores)]
    return float(scores.mean()) / (dim - rows.null_dim) if dim and len(scores) else float("nan")
