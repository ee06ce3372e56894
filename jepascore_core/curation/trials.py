"""Choose, fit, judge on held-out images, again with another split: is a choice by score better than a random one?"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from jepascore_core.curation.probes import PROBES, accuracy, balanced_accuracy
from jepascore_core.curation.rules import CONTROL_OF, RULES, choose
from jepascore_core.curation.splits import held_out

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

FRACTIONS = (0.1, 0.25, 0.5, 0.75)
USUAL_RULES = ("top", "bottom", "middle", "stratified")
SEEDS = 20
FEWEST_SEEDS = 3  # an interval over fewer says nothing
HELD_OUT = 0.3
FEWEST = 10  # images on either side of a split
UNEVEN = 1.5  # largest class by smallest, from which accuracy is balanced as well
LEVEL = 0.05
CORRELATION = 0.2
"""Of the differences of two splits. For scores that are noise it is 0.15 where a tenth is kept, 0.05 where most is, and
0.22 at most in simulations like those of the tests: false alarms stay rarer than the nominal rate."""
ALL = "all"
_ALONE = threading.Lock()
"""Held while probes are fitted with one thread each: fits this small lose most of their time to threads that wait for
one another. The limit is the whole process's, and two that overlap would leave it behind."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """What is chosen from.

    Attributes:
        keys: N.
        dataset: Id of the dataset that they are of.
        classes: 0..C−1, (N,).
        class_names: C of them.
        scores: (N,), finite.
        embeddings: (N, D), finite.
        kept: Image that stands for each one's group of duplicates, (N,).
    """

    keys: Sequence[str] = field(repr=False)
    dataset: str
    classes: Ints = field(repr=False)
    class_names: Sequence[str]
    scores: NDArray[np.float64] = field(repr=False)
    embeddings: Floats = field(repr=False)
    kept: Ints = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How well a probe does that was fitted on what one rule keeps of the training images.

    Attributes:
        rule: Name in ``RULES`` or ``CONTROLS``, or ``all``.
        fraction: Share of the training images that it keeps.
        probe: ``linear`` or ``knn``.
        n_kept: Images that it keeps, mean over splits.
        accuracy: Share of held-out images whose class is named, mean over splits.
        low: Lower end of its 95 % interval.
        high: Upper end.
        balanced: Balanced accuracy, mean over splits.
        control: Random choice that it is measured against; "" for random and all.
        difference: Accuracy less that of the control, same split and number; NaN without a control.
        difference_low: Lower end of its 95 % interval.
        difference_high: Upper end.
        p: Two-sided p-value of no difference.
        p_holm: The same, corrected for all differences of the trials (Holm 1979).
        classes_lost: Classes of the training images of which nothing is kept, most in any split.
    """

    rule: str
    fraction: float
    probe: str
    n_kept: float
    accuracy: float
    low: float
    high: float
    balanced: float
    control: str = ""
    difference: float = float("nan")
    difference_low: float = float("nan")
    difference_high: float = float("nan")
    p: float = float("nan")
    p_holm: float = float("nan")
    classes_lost: int = 0

    @property
    def found(self) -> str:
        """``better`` or ``worse`` than the control where the corrected p-value is below 5 %, else ``undecided``."""
        if not self.p_holm < LEVEL:
            return "undecided"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True, slots=True)
class Trials:
    """Everything that was measured.

    Attributes:
        outcomes: Of each rule, fraction and probe.
        images: Images that took part, after duplicates were left out.
        training: Training images, mean over splits.
        judged: Held-out images, mean over splits.
        classes: Number of classes.
        uneven: Whether the largest class has at least half as many images again as the smallest.
        majority: Share of the largest class.
        seeds: Splits.
        share: Of the groups of duplicates that are held out, about.
        kept_duplicates: Whether duplicates took part.
    """

    outcomes: tuple[Outcome, ...]
    images: int
    training: float
    judged: float
    classes: int
    uneven: bool
    majority: float
    seeds: int
    share: float
    kept_duplicates: bool

    def tested(self) -> list[Outcome]:
        """Outcomes that were compared with random choice."""
        return [outcome for outcome in self.outcomes if outcome.control]

    def of(self, rule: str, probe: str) -> list[Outcome]:
        """Outcomes of one rule and probe, by fraction."""
        mine = [one for one in self.outcomes if (one.rule, one.probe) == (rule, probe)]
        return sorted(mine, key=lambda one: one.fraction)


def run_trials(
    images: Images,
    *,
    rules: Sequence[str] = USUAL_RULES,
    fractions: Sequence[float] = FRACTIONS,
    seeds: int = SEEDS,
    share: float = HELD_OUT,
    keep_duplicates: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Trials:
    """Measure what choosing by score is worth.

    For each seed: a part of the images is held out by a hash of dataset and key; of the others each rule keeps each
    fraction, and random choice as many; probes are fitted on what is kept and judged on what is held out. Duplicates
    are left out but for one of each group; where they take part, a group still stays on one side of the split.

    Args:
        images: The images.
        rules: Names in ``RULES``.
        fractions: Shares to keep, 0 < fraction < 1.
        seeds: Splits; each is a random draw too; at least 3.
        share: To hold out, 0..1.
        keep_duplicates: Let duplicates take part.
        on_progress: Called with the splits done and their number.

    Returns:
        The outcomes.

    Raises:
        ValueError: There are too few images or classes, or a rule, a fraction or the number of seeds is none.
    """
    tables = []
    for seed in range(seeds):
        tables.append(
            run_split(images, seed, rules=rules, fractions=fractions, share=share, keep_duplicates=keep_duplicates)
        )
        if on_progress is not None:
            on_progress(seed + 1, seeds)
    return summarise(images, tables, rules=rules, fractions=fractions, share=share, keep_duplicates=keep_duplicates)


def run_split(
    images: Images,
    seed: int,
    *,
    rules: Sequence[str] = USUAL_RULES,
    fractions: Sequence[float] = FRACTIONS,
    share: float = HELD_OUT,
    keep_duplicates: bool = False,
) -> NDArray[np.float64]:
    """Measure one split; see ``run_trials``.

    Args:
        images: The images.
        seed: Another seed, another split.
        rules: Names in ``RULES``.
        fractions: Shares to keep, 0 < fraction < 1.
        share: To hold out, 0..1.
        keep_duplicates: Let duplicates take part.

    Returns:
        For each choice and probe: accuracy, balanced accuracy, images kept, classes lost; (choices, probes, 4).

    Raises:
        ValueError: There are too few images or classes, or a rule or a fraction is none.
    """
    _check(rules, fractions)
    rows = _taking_part(images, keep_duplicates)
    _check_images(images, rows)
    train, judged = split(images, rows, seed, share)
    with _ALONE, threadpool_limits(1, user_api="blas"):
        return np.array([list(_judge(images, train, judged, *step, seed)) for step in _plan(rules, fractions)])


def summarise(
    images: Images,
    tables: Sequence[NDArray[np.float64]],
    *,
    rules: Sequence[str] = USUAL_RULES,
    fractions: Sequence[float] = FRACTIONS,
    share: float = HELD_OUT,
    keep_duplicates: bool = False,
) -> Trials:
    """Means, intervals and tests over splits.

    Args:
        images: The images.
        tables: What ``run_split`` found with the seeds 0, 1, …; at least 3.
        rules: As it took them.
        fractions: As it took them.
        share: As it took it.
        keep_duplicates: As it took it.

    Returns:
        The outcomes.

    Raises:
        ValueError: The splits are too few.
    """
    seeds = len(tables)
    if seeds < FEWEST_SEEDS:
        raise ValueError(f"At least {FEWEST_SEEDS} seeds are needed for an interval, not {seeds}.")
    rows = _taking_part(images, keep_duplicates)
    sizes = np.bincount(images.classes[rows])
    sizes = sizes[sizes > 0]
    sides = np.array([[len(side) for side in split(images, rows, seed, share)] for seed in range(seeds)]).mean(axis=0)
    return Trials(
        outcomes=tuple(_outcomes(_plan(rules, fractions), np.array(tables), CORRELATION)),
        images=len(rows),
        training=float(sides[0]),
        judged=float(sides[1]),
        classes=len(sizes),
        uneven=bool(sizes.max() >= UNEVEN * sizes.min()),
        majority=float(sizes.max() / sizes.sum()),
        seeds=seeds,
        share=share,
        kept_duplicates=keep_duplicates,
    )


def split(images: Images, rows: Ints, seed: int, share: float) -> tuple[Ints, Ints]:
    """Training and held-out images, positions of both; no group of duplicates is on both sides.

    Args:
        images: The images.
        rows: Positions of those that take part.
        seed: Another seed, another split.
        share: To hold out.

    Returns:
        Positions to choose from, and positions to judge on.

    Raises:
        ValueError: A side has too few images, or there is one class to choose from.
    """
    away = held_out(images.keys, images.dataset, images.kept, seed, share)[rows]
    train, judged = rows[~away], rows[away]
    if min(len(train), len(judged)) < FEWEST or len(np.unique(images.classes[train])) < 2:
        raise ValueError(
            f"Too few images to hold some out: {len(rows)} without duplicates, of which a split leaves {len(train)} to "
            f"choose from and {len(judged)} to judge on; each needs at least {FEWEST}."
        )
    return train, judged


def interval(values: NDArray[np.float64], correlation: float) -> tuple[float, float, float, float]:
    """Mean over splits with a 95 % t-interval that allows for what splits share, and the p-value of no mean.

    Splits of the same images are not independent: Var(mean) = σ² (1/J + (J−1)/J · ρ) where the sample variance has
    expectation σ² (1 − ρ), so that it is multiplied with 1/J + ρ/(1 − ρ) in place of 1/J (Nadeau and Bengio,
    *Inference for the generalization error*, 2003). Two splits choose from much the same images, and share the luck
    of a score's choice. See ``CORRELATION`` for ρ.

    Args:
        values: One of each split, (J,), J ≥ 2.
        correlation: ρ, 0 ≤ ρ < 1.

    Returns:
        Mean, lower and upper end, p-value.
    """
    from scipy.stats import t

    mean, n = float(values.mean()), len(values)
    error = float(np.sqrt(values.var(ddof=1) * (1 / n + correlation / (1 - correlation))))
    half = float(t.ppf(0.975, n - 1)) * error
    if error <= 1e-12 * max(1.0, abs(mean)):  # every split says the same: as sure as n signs can be, no surer
        return mean, mean, mean, 1.0 if abs(mean) < 1e-12 else min(1.0, 2.0 ** (1 - n))
    return mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, n - 1))


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values corrected for their number by Holm's step-down procedure (1979), (N,)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, stepped)
    return corrected


def _taking_part(images: Images, keep_duplicates: bool) -> Ints:
    """Positions of the images that take part."""
    return np.arange(len(images.keys)) if keep_duplicates else np.unique(images.kept)


def _plan(rules: Sequence[str], fractions: Sequence[float]) -> list[tuple[str, float]]:
    """Every choice that a split makes: rule and share."""
    return [(rule, fraction) for fraction in sorted(set(fractions)) for rule in _with_controls(rules)] + [(ALL, 1.0)]


def _with_controls(rules: Sequence[str]) -> list[str]:
    """Rules and the random choices that they need."""
    asked = list(dict.fromkeys(rules))
    return [*dict.fromkeys(["random", *(CONTROL_OF[rule] for rule in asked)]), *asked]


def _judge(images: Images, train: Ints, judged: Ints, rule: str, fraction: float, seed: int) -> Iterator[list[float]]:
    """What each probe makes of a choice: accuracy, balanced accuracy, images and classes lost."""
    classes = images.classes
    kept = train
    if rule != ALL:
        kept = train[choose(rule, images.scores[train], classes[train], fraction, seed)]
    lost = len(np.unique(classes[train])) - len(np.unique(classes[kept]))
    for probe in PROBES.values():
        named = probe(images.embeddings[kept], classes[kept], images.embeddings[judged])
        yield [accuracy(classes[judged], named), balanced_accuracy(classes[judged], named), len(kept), lost]


def _outcomes(
    plan: Sequence[tuple[str, float]], measured: NDArray[np.float64], correlation: float
) -> Iterator[Outcome]:
    """Means, intervals and tests of what was measured."""
    place = {step: number for number, step in enumerate(plan)}
    tests = [(step, probe) for step in plan if step[0] in RULES for probe in range(len(PROBES))]
    apart = {
        (step, probe): interval(
            measured[:, place[step], probe, 0] - measured[:, place[CONTROL_OF[step[0]], step[1]], probe, 0], correlation
        )
        for step, probe in tests
    }
    corrected = dict(zip(tests, holm(np.array([apart[test][3] for test in tests])), strict=True))
    for step, number in place.items():
        for probe, name in enumerate(PROBES):
            mine = measured[:, number, probe]  # (seeds, 4)
            mean, low, high, _ = interval(mine[:, 0], correlation)
            found = Outcome(
                rule=step[0], fraction=step[1], probe=name, n_kept=float(mine[:, 2].mean()), accuracy=mean,
                low=max(0.0, low), high=min(1.0, high), balanced=float(mine[:, 1].mean()),
                classes_lost=int(mine[:, 3].max()),
            )  # fmt: skip
            if (step, probe) in apart:
                d, d_low, d_high, p = apart[step, probe]
                found = _tested(found, d, d_low, d_high, p, float(corrected[step, probe]))
            yield found


def _tested(found: Outcome, d: float, low: float, high: float, p: float, corrected: float) -> Outcome:
    """An outcome beside its control."""
    return replace(
        found, control=CONTROL_OF[found.rule], difference=d, difference_low=low, difference_high=high, p=p,
        p_holm=corrected,
    )  # fmt: skip


def _check(rules: Sequence[str], fractions: Sequence[float]) -> None:
    """Refuse what cannot be asked.

    Raises:
        ValueError: A rule or a fraction is none.
    """
    if unknown := [rule for rule in rules if rule not in RULES]:
        raise ValueError(f"There is no rule {unknown[0]!r}; there are {', '.join(RULES)}.")
    if not rules or not fractions:
        raise ValueError("At least one rule and one fraction are needed.")
    if wrong := [fraction for fraction in fractions if not 0 < fraction < 1]:
        raise ValueError(f"A fraction to keep lies between 0 and 1, both excluded, not {wrong[0]:g}.")


def _check_images(images: Images, rows: Ints) -> None:
    """Refuse images that no probe can be fitted to.

    Raises:
        ValueError: They have no classes, or there are too few.
    """
    names = {images.class_names[code] for code in np.unique(images.classes[rows])}
    if len(names) < 2:
        what = "no labels" if names <= {""} else "one class only"
        raise ValueError(f"These images have {what}, so that a probe has nothing to tell apart.")
    if len(rows) < 2 * FEWEST:
        raise ValueError(
            f"Too few images to hold some out: {len(rows)} without duplicates; at least {2 * FEWEST} are needed."
        )
