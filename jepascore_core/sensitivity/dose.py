"""Dose-response: how the value of an image changes when the image is corrupted, the more the stronger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jepascore_core.outliers import Method, OutlierError, Rows, cross_fit, methods, possible
from jepascore_core.outliers.evaluate import reason
from jepascore_core.outliers.metrics import Interval
from jepascore_core.sensitivity.estimates import LEAST, mean_interval, paired_apart, share_interval


@dataclass(frozen=True, slots=True)
class Dose:
    """What one corruption does to the values of one method.

    Attributes:
        kind: Of the corruption.
        severity: 1 to 5.
        method: Who judges; higher values mean more in-distribution.
        n: Images that have a value before and after.
        change: Mean of value after minus value before, in the method's own unit.
        spread: Standard deviation of the values before, in the same unit.
        fell: Share of images whose value falls; equal values count half.
        auroc: Of clean images over corrupted ones, the interval for pairs.
        direction: Whether lower values mean corrupted: ``holds``, ``inverted`` or ``undecided``.
        rows: In words, which rows fitted and which were judged.
        warnings: What a reader must know.
    """

    kind: str
    severity: int
    method: Method
    n: int
    change: Interval
    spread: float
    fell: Interval
    auroc: Interval
    direction: str
    rows: str
    warnings: tuple[str, ...] = field(default=())

    @property
    def change_sd(self) -> Interval:
        """The mean change in standard deviations of the clean values; NaN where these do not vary."""
        if not self.spread > 0:
            return Interval(*[float("nan")] * 3)
        return Interval(*(part / self.spread for part in (self.change.value, self.change.low, self.change.high)))


def dose_response(
    clean: Rows,
    corrupted: Mapping[tuple[str, int], Rows],
    *,
    wanted: Sequence[Method] | None = None,
    seed: int = 0,
) -> tuple[list[Dose], dict[str, str]]:
    """Compare images with themselves, corrupted; rows pair by key.

    Methods that learn are cross-fitted on clean rows: an image, clean or corrupted, is judged by a model that saw
    neither.

    Args:
        clean: Rows of the clean images.
        corrupted: Rows of the same images, by kind and severity; images that only one side has are left out.
        wanted: Methods; None takes all of ``outliers.methods``.
        seed: Of the folds and the models.

    Returns:
        One dose for each method and corruption, and why not, by the title of each method that is not possible.

    Raises:
        OutlierError: There is no corruption, or one has fewer than two images in common with the clean rows.
    """
    if not corrupted:
        raise OutlierError("There is no corrupted run to compare with.")
    paired = {dose: pairs(clean, rows) for dose, rows in corrupted.items()}
    for (kind, severity), (places, _) in paired.items():
        if len(places) < LEAST:
            raise OutlierError(
                f"{clean.name} and its run under {kind} {severity} have {len(places)} scored images in common; "
                f"{LEAST} are needed."
            )
    others = [rows for _, rows in paired.values()]
    able, left_out = possible(wanted or methods(), [clean, *others])
    found: list[Dose] = []
    for method in able:
        try:
            judged = cross_fit(method, clean, others, seed=seed)
        except OutlierError as error:
            left_out[method.title] = reason(method, error)
            continue
        for ((kind, severity), (places, _)), after in zip(paired.items(), judged.values_out, strict=True):
            before = judged.values_in[places]
            held = np.isfinite(before) & np.isfinite(after)
            if held.sum() >= LEAST:
                found.append(_dose(kind, severity, method, before[held], after[held], judged.rows, judged.warnings))
            else:
                left_out[method.title] = f"it gives {int(held.sum())} images a finite value under {kind} {severity}"
    return found, left_out


def pairs(clean: Rows, corrupted: Rows) -> tuple[NDArray[np.int64], Rows]:
    """Match rows by key.

    Args:
        clean: Rows of the clean images.
        corrupted: Rows of corrupted ones, in any order.

    Returns:
        Places of the common images among the clean rows, and their corrupted rows in that order.
    """
    place_of = {key: place for place, key in enumerate(corrupted.keys)}
    places = np.array([place for place, key in enumerate(clean.keys) if key in place_of], np.int64)
    return places, corrupted.take(np.array([place_of[clean.keys[place]] for place in places], np.int64))


def _dose(
    kind: str,
    severity: int,
    method: Method,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    rows: str,
    warnings: tuple[str, ...],
) -> Dose:
    """The numbers of one method under one corruption."""
    change = after - before
    fell = float((change < 0).sum() + (change == 0).sum() / 2)
    measured = paired_apart(before, after)
    return Dose(
        kind, severity, method, len(change), mean_interval(change), float(before.std(ddof=1)),
        share_interval(fell, len(change)), measured.auroc, measured.direction, rows, warnings,
    )  # fmt: skip
