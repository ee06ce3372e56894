"""What the numbers of a curation say, in sentences that they support."""

from collections.abc import Sequence

import numpy as np

from jepascore_core.curation.duplicates import LEAST_SIMILARITY, Duplicates
from jepascore_core.curation.trials import LEVEL, Outcome, Trials
from jepascore_core.text import count, number, plural, significant

PROBE_WORDS = {"linear": "linear probe", "knn": "k-NN probe"}
RULE_WORDS = {
    "top": "the highest",
    "bottom": "the lowest",
    "middle": "the middle",
    "stratified": "the highest of each class",
    "stratified_bottom": "the lowest of each class",
    "random": "random",
    "random_per_class": "random within classes",
    "all": "all",
}
_LISTED = 3  # differences of one direction; more are counted


def verdict(trials: Trials) -> str:
    """Whether anything beats random choice, whether anything is worse, and what would have gone unseen.

    Args:
        trials: What was measured.

    Returns:
        A few sentences, plain text.
    """
    tested = trials.tested()
    better, worse = (sorted(_of(tested, way), key=lambda one: one.p_holm) for way in ("better", "worse"))
    words = []
    if better:
        words.append(f"Better than random choice of the same size: {_some(better)}.")
    else:
        words.append("Nothing beats random choice of the same size on held-out images.")
    if worse:
        words.append(f"Worse than random: {_some(worse)}.")
    words.append(
        f"{plural(len(tested), 'comparison')} over {trials.seeds} splits, corrected by Holm’s method at "
        f"{100 * LEVEL:.0f} %" + ("." if better and worse else f"; {_unseen(trials)}.")
    )
    return " ".join(words)


def losses(trials: Trials) -> str:
    """Which choices lose whole classes.

    Args:
        trials: What was measured.

    Returns:
        One sentence, or "" where none does.
    """
    lost: dict[str, list[str]] = {}
    for one in trials.outcomes:
        if one.classes_lost and one.probe == trials.outcomes[0].probe:
            lost.setdefault(one.rule, []).append(f"{100 * one.fraction:g} % ({one.classes_lost})")
    told = [f"{RULE_WORDS[rule]} {', '.join(choices)}" for rule, choices in lost.items()]
    if not told:
        return ""
    return (
        f"Some choices keep no image of some of the {trials.classes} classes (how many, in the worst split): "
        f"{'; '.join(told)}."
    )


def about_duplicates(duplicates: Duplicates, classes: Sequence[int] | np.ndarray | None = None) -> str:
    """How many duplicates there are, and what they would do.

    Args:
        duplicates: What was found.
        classes: Class of each image, (N,); None where they have none.

    Returns:
        A few sentences, plain text.
    """
    n, groups = len(duplicates.kept), duplicates.groups()
    if duplicates.threshold is None:
        how = "equal embeddings only, for there are too few images to tell what is nearer than usual"
    else:
        how = f"cosine similarity from {_cosine(duplicates.threshold)}, {_why(duplicates)}"
    if not groups:
        return f"No duplicates among {plural(n, 'image')} ({how})."
    near, verb = duplicates.dropped - duplicates.dropped_exact, "repeats" if duplicates.dropped == 1 else "repeat"
    words = [
        f"{count(duplicates.dropped)} of {plural(n, 'image')} {verb} another one, in "
        f"{plural(len(groups), 'group')}: "
        f"{count(duplicates.dropped_exact)} by an equal embedding, {count(near)} by a near one ({how}). "
        "One of each group is kept: an image on both sides of a split makes every probe look better than it is, and "
        "copies fill a choice by score with one picture."
    ]
    if classes is not None:
        codes = np.asarray(classes)
        mixed = sum(len(np.unique(codes[group])) > 1 for group in groups)
        if mixed:
            words.append(f"{plural(mixed, 'group')} hold{'s' * (mixed == 1)} more than one class: look at the labels.")
    if len(groups[0]) > max(10, 0.05 * n):
        words.append(
            f"The largest holds {plural(len(groups[0]), 'image')}: a chain of near pairs rather than copies of one "
            "picture; raise the threshold."
        )
    return " ".join(words)


def _why(duplicates: Duplicates) -> str:
    """Where the threshold comes from."""
    if not duplicates.derived:
        return "as set"
    if duplicates.threshold == LEAST_SIMILARITY:
        return "the least that counts by itself; these images are less alike than that by far"
    return "nearer than all but about one in a thousand neighbours would be by chance"


def _of(tested: Sequence[Outcome], way: str) -> list[Outcome]:
    return [one for one in tested if one.found == way]


def _some(outcomes: Sequence[Outcome]) -> str:
    """The clearest differences in words, the others counted."""
    told = [
        f"{_choice(one.rule, one.fraction)} by {points(one.difference)} "
        f"({points(one.difference_low)} … {points(one.difference_high)}) points of accuracy, {PROBE_WORDS[one.probe]}"
        for one in outcomes[:_LISTED]
    ]
    more = len(outcomes) - _LISTED
    return "; ".join([*told, plural(more, "other")] if more > 0 else told)


def _choice(rule: str, fraction: float) -> str:
    return f"{RULE_WORDS[rule]} {100 * fraction:g} %"


def _unseen(trials: Trials) -> str:
    """How large a difference would have been seen, about."""
    from scipy.stats import t

    tested = trials.tested()
    half = float(np.median([(one.difference_high - one.difference_low) / 2 for one in tested]))
    freedom = trials.seeds - 1
    wider = float(t.ppf(1 - LEVEL / 2 / len(tested), freedom) / t.ppf(1 - LEVEL / 2, freedom))
    return f"a difference of less than about {points(half * wider).lstrip('+')} points would have gone unseen"


def points(value: float) -> str:
    """A difference of accuracies in percentage points with its sign."""
    shown = number(100 * value, 1)
    return shown if shown.startswith("−") or shown in ("0.0", "–") else f"+{shown}"


def _cosine(value: float) -> str:
    """A cosine, by its distance from one where that is small and not a round number."""
    if value < 0.999 or round(value, 4) == value:
        return number(value, 4).rstrip("0").rstrip(".")
    return f"1 − {significant(1 - value, 2)}"
