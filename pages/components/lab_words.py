"""What the theory lab says of its figures, in sentences that follow from the numbers."""

import math
from collections.abc import Mapping

from jepascore_core.langevin import EnergyTest
from jepascore_core.theory.encoder import FEW, LabConfig
from jepascore_core.theory.objectives import LAB_OBJECTIVES
from pages.components.text import count, number

SCORE_NAMES = {"raw": "raw score, eq. (5)", "sphere": "sphere score", "corrected": "corrected score"}
CLEAR = 0.1  # a difference of correlations that is worth a word
_BROKEN = {
    "no_anticollapse": "Without the anti-collapse term",
    "few_samples": f"With {FEW} samples",
    "collapsed": "With half of the embedding silent",
}


def verdict(config: LabConfig, found: Mapping[str, float], which: str) -> str:
    """What the correlation is, and how it compares with the untrained net and with one Gaussian."""
    trained, untrained = found[f"{which}_pearson"], found[f"untrained_{which}_pearson"]
    baseline = found["gaussian_pearson"]
    if math.isnan(trained):
        return (
            f"**The score does not vary, or is not finite:** nothing of log p is left. Untrained: {number(untrained)}."
        )
    broken = _BROKEN.get(config.broken, "")
    start = f"{broken}, Pearson" if broken else "Pearson"
    facts = (
        f"{start} **{number(trained)}** with the true log p; untrained {number(untrained)}, "
        f"one fitted Gaussian {number(baseline)}."
    )
    gained = trained - (0.0 if math.isnan(untrained) else untrained)
    if gained < CLEAR:
        told = (
            "Training taught the score nothing of the density" if gained > -CLEAR else "Training made the score worse"
        )
        if broken:
            told += ": the theory needs what was taken away"
    elif trained < baseline - CLEAR / 5:
        told = "Training helped, yet a single Gaussian without a network does better"
    elif trained < 0.8:
        told = "Training taught the score some of the density"
    else:
        told = "The encoder learned the density"
    return f"{facts} {told}."


def training(config: LabConfig) -> str:
    """What was trained on what."""
    samples = min(FEW, config.samples) if config.broken == "few_samples" else config.samples
    on_sphere = LAB_OBJECTIVES[config.objective].on_sphere
    place = f"D = {config.embedding_dim}" + (" on the unit sphere" if on_sphere else "")
    return (
        f"MLP of {config.depth} × {config.width} GELU units beside a linear skip, d = {config.dim} to {place}; "
        f"{count(samples)} samples, {count(config.steps)} steps of {config.batch_size}. "
        f"Covariance and projections are those of held-out points{', times √D' if on_sphere else ''}."
    )


def plane(radius: str, *, on_sphere: bool) -> str:
    """How to read Figure 2, top left."""
    where = (
        "Right: the sphere in Lambert's equal-area projection, so that even spread looks even; the rim is one point"
        if on_sphere
        else "Right: the embedding plane"
    )
    return (
        f"Orange: ellipses that the Jacobian maps onto circles of radius {radius}. Where the data are dense they are "
        f"small, because the encoder expands there. {where}; orange, where the encoder in fact places them. "
        "Grey dots left and blue dots right: the same held-out points. Both densities share one colour scale."
    )


def numbers() -> str:
    """What the scores in the table are."""
    return (
        "*raw* is eq. (5). *sphere* brings the embedding to the unit sphere first; *corrected* adds the log-density of "
        "the embedding under a fitted Gaussian. An untrained net that does as well refutes the claim, and so does one "
        "Gaussian."
    )


def walk(tests: Mapping[str, EnergyTest], kind: str) -> str:
    """Whether the samples recover the distribution, as a number in a sentence."""
    score, exact, start = (tests[name] for name in ("score", "exact", "uniform"))
    here, chance, p = number(score.distance, 3), number(score.null_95, 3), number(score.p_value, 3)
    times = start.distance / max(score.distance, 1e-9)
    if score.p_value > 0.05:
        told = (
            f"**The samples recover the distribution:** energy distance {here} from the data, as chance alone gives it "
            f"(95 % of shuffles lie below {chance}; p = {p})."
        )
    elif times > 2:
        told = (
            f"**The samples come close, and can still be told from the data:** energy distance {here}, "
            f"{number(times, 1)} times nearer than the uniform start; chance alone stays below {chance} (p = {p})."
        )
    else:
        told = (
            f"**The samples do not recover the distribution:** energy distance {here}, the uniform start "
            f"{number(start.distance, 3)}; chance alone stays below {chance} (p = {p})."
        )
    return f"{told} The exact gradient reaches {number(exact.distance, 3)} in as many steps. Gradient of the {kind}."
