"""Rules that choose some of many images by a score, and the random choices that they are measured against.

A rule is a function of scores, classes, how many to keep, and a generator that breaks ties; ``RULES`` names those by
score, ``CONTROLS`` those that look at no score.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Scores = NDArray[np.float64]
Rule = Callable[[Scores, Ints, int, np.random.Generator], Ints]


def top(scores: Scores, classes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """The highest scores: positions, (n,)."""
    return _ranks(scores, len(scores) - n, n, rng)


def bottom(scores: Scores, classes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """The lowest scores: positions, (n,)."""
    return _ranks(scores, 0, n, rng)


def middle(scores: Scores, classes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """The scores around the median: positions, (n,)."""
    return _ranks(scores, (len(scores) - n) // 2, n, rng)


def stratified(scores: Scores, classes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """The highest scores of each class, the same share of each: positions, (n,)."""
    return _per_class(top, scores, classes, n, rng)


def stratified_bottom(scores: Scores, classes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """The lowest scores of each class, the same share of each: positions, (n,)."""
    return _per_class(bottom, scores, classes, n, rng)


def random(scores: Scores, classes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Any n: positions, (n,)."""
    return rng.permutation(len(scores))[:n]


def random_per_class(scores: Scores, classes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Any of each class, the same share of each: positions, (n,)."""
    return _per_class(random, scores, classes, n, rng)


RULES: dict[str, Rule] = {
    "top": top,
    "bottom": bottom,
    "middle": middle,
    "stratified": stratified,
    "stratified_bottom": stratified_bottom,
}
CONTROLS: dict[str, Rule] = {"random": random, "random_per_class": random_per_class}
CONTROL_OF = {name: "random_per_class" if name.startswith("stratified") else "random" for name in RULES}
"""A choice that takes the same share of each class is measured against a random one that does so too."""


def choose(rule: str, scores: Scores, classes: Ints, fraction: float, seed: int = 0) -> Ints:
    """Choose a fraction of some images.

    Args:
        rule: Name in ``RULES`` or ``CONTROLS``.
        scores: (N,), finite, N ≥ 1.
        classes: 0..C−1, (N,).
        fraction: Share to keep, 0 < fraction ≤ 1; at least one image is kept.
        seed: Breaks ties of the score, and draws what is random.

    Returns:
        Positions of the chosen, ascending.

    Raises:
        ValueError: The rule or the fraction is none.

    Example:
        >>> choose("middle", np.array([5.0, 1.0, 3.0, 2.0, 4.0]), np.zeros(5, int), 0.2).tolist()
        [2]
    """
    known = RULES | CONTROLS
    if rule not in known:
        raise ValueError(f"there is no rule {rule!r}; there are {', '.join(known)}")
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction to keep lies between 0 and 1, not {fraction}")
    n = kept_count(len(scores), fraction)
    return np.sort(known[rule](scores, classes, n, np.random.default_rng(seed)))


def kept_count(n: int, fraction: float) -> int:
    """Images that a fraction of n means: the nearest whole number, at least one."""
    return max(1, min(n, round(fraction * n)))


def _ranks(scores: Scores, first: int, n: int, rng: np.random.Generator) -> Ints:
    """Positions of n scores in a row of the ascending order, from the given place on, in any order.

    Which of equal ones is random: their order in a dataset is often that of its classes. A partition of shuffled scores
    looks at nothing but their values, so that each of equal ones is as likely in as another.
    """
    shuffled = rng.permutation(len(scores))
    return shuffled[np.argpartition(scores[shuffled], (first, first + n - 1))[first : first + n]]


def _per_class(rule: Rule, scores: Scores, classes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Apply a rule within each class."""
    found = []
    sizes = np.bincount(classes)
    of_class = np.split(np.argsort(classes, kind="stable"), np.cumsum(sizes)[:-1])  # ascending positions of each
    for mine, most in zip(of_class, _shares(sizes, n, rng), strict=True):
        if most:
            found.append(mine[rule(scores[mine], classes[mine], int(most), rng)])
    return np.concatenate(found)


def _shares(sizes: Ints, n: int, rng: np.random.Generator) -> Ints:
    """Images to take of each class, n together: its share, rounded up or down at random so that the mean is exact.

    Systematic sampling of what rounding down leaves: rounding to the nearest would pass over small classes always.
    """
    wanted = n * sizes / sizes.sum()
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    order = rng.permutation(len(sizes))
    ends = np.cumsum(np.maximum(wanted - counts, 0)[order])
    ends[-1] = n - counts.sum()
    marks = np.floor(np.minimum(ends, ends[-1]) - rng.uniform(1e-6, 1 - 1e-6)).astype(np.int64)
    counts[order] += np.diff(marks, prepend=-1)
    return counts
