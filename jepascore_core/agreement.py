"""How far two scores of the same images agree: rank correlations, overlap of the extremes, largest disagreements.

Only orders are compared, never values: the scores of two encoders share no scale. Everything is asked of ``Ranks``,
which hold where each image stands among those of its class; with one class for all, that is the whole run.
"""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Z95 = 1.959964  # two-sided 95 % of a normal
_MANY_CLASSES = 20  # from here on the interval is over classes, which holds however few images each has
KENDALL_MOST = 100_000  # images; with so many the interval is 0.01 wide

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: The number; NaN where it is not defined.
        low: Lower end; NaN where there is none.
        high: Upper end.
        n: Images that it rests on.
        method: How the interval was made.
    """

    value: float
    low: float
    high: float
    n: int
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """Where each image stands among those of its class.

    Attributes:
        below: Images of its class with a lower score, (N,).
        ties: Images of its class with the same score, itself among them, (N,).
        classes: Class of each image, 0..C−1, (N,).
        sizes: Images of each class, (C,).
    """

    below: NDArray[np.int32] = field(repr=False)
    ties: NDArray[np.int32] = field(repr=False)
    classes: NDArray[np.int32] = field(repr=False)
    sizes: Ints

    def __len__(self) -> int:
        return len(self.below)

    def percentiles(self) -> Floats:
        """Share of the class with a lower score, equal ones counting half, 0..100, (N,)."""
        return 50.0 * (2.0 * self.below + self.ties) / self.sizes[self.classes]

    def percentiles_of(self, places: Ints) -> Floats:
        """As ``percentiles``, of some images."""
        return 50.0 * (2.0 * self.below[places] + self.ties[places]) / self.sizes[self.classes[places]]

    def placed(self, places: Ints) -> "Ranks":
        """The same ranks with each image at a new place, (N,)."""
        below, ties, classes = (_put(values, places) for values in (self.below, self.ties, self.classes))
        return Ranks(below, ties, classes, self.sizes)

    def above(self) -> Ints:
        """Images of the class with a higher score, (N,)."""
        return self.sizes[self.classes] - self.below - self.ties

    def among(self, chosen: Ints) -> "Ranks":
        """Ranks of some images among themselves.

        Args:
            chosen: Their places, (M,).

        Returns:
            (M,), of the same classes.
        """
        if 8 * len(chosen) < len(self):  # sorting a few is quicker than counting all
            return rank(self.below[chosen], self.classes[chosen], len(self.sizes))
        slots, classes = self.slots()[chosen], self.classes[chosen]
        counts = np.bincount(slots, minlength=len(self))
        sizes = np.bincount(classes, minlength=len(self.sizes))
        before = np.cumsum(counts) - counts
        below = before[slots] - (np.cumsum(sizes) - sizes)[classes]
        return Ranks(below.astype(np.int32), counts[slots].astype(np.int32), classes, sizes)

    def slots(self) -> Ints:
        """Where each image would stand if all were sorted by class and score; equal ones share the first place."""
        return (np.cumsum(self.sizes) - self.sizes)[self.classes] + self.below


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What a rank correlation and its interval are made of: value = Σ product / √(Σ square_a · Σ square_b).

    Images differ in what they add to the sum of products, their own share and what they change in the ranks of the
    others, and how much they differ tells how much the sum of other images would (Hájek's projection; for Kendall's
    τ, Sen 1960). No distribution is assumed, and nothing is resampled.

    Attributes:
        product: Sum over each class, (C,).
        square_a: Sum over each class, (C,).
        square_b: Sum over each class, (C,).
        variance: Of the product, (C,).
        sizes: Images of each class, (C,).
    """

    product: Floats
    square_a: Floats
    square_b: Floats
    variance: Floats
    sizes: Ints

    def together(self) -> Estimate:
        """The correlation over all classes.

        Returns:
            With an interval through Fisher's z, from four images on. From 20 classes on it is the spread of the
            classes that counts, which holds however few images each has.
        """
        n = int(self.sizes.sum())
        product, square_a, square_b = (float(x.sum()) for x in (self.product, self.square_a, self.square_b))
        if min(square_a, square_b) <= 0:
            return Estimate(np.nan, np.nan, np.nan, n, "none")
        scale = sqrt(square_a * square_b)
        value = float(np.clip(product / scale, -1.0, 1.0))
        filled = self.sizes > 1
        over_classes = filled.sum() >= _MANY_CLASSES
        if over_classes:  # linearised in the three sums
            part = self.square_a * square_b + self.square_b * square_a
            misfit = (self.product - value * part / (2 * scale))[filled]
            variance = float(np.sum(misfit**2)) * len(misfit) / (len(misfit) - 1)
        else:
            variance = float(self.variance.sum())
        if n < 4:
            return Estimate(value, np.nan, np.nan, n, "none")
        low, high = _fisher(value, sqrt(variance) / scale)
        return Estimate(value, float(low), float(high), n, "over classes" if over_classes else "over images")

    def of_classes(self) -> tuple[Floats, Floats, Floats]:
        """The correlation within each class.

        Returns:
            Value, low and high, (C,) each; NaN where a class has too few images (two for a value, four for the
            interval).
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.sqrt(self.square_a * self.square_b)
            value = np.clip(self.product / scale, -1.0, 1.0)
            low, high = _fisher(value, np.sqrt(self.variance) / scale)
        few = self.sizes < 4
        return value, np.where(few, np.nan, low), np.where(few, np.nan, high)


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """Images that two encoders both have at an end of a class.

    Attributes:
        n: Images looked at at each end of each class: as many as asked for, at most half of the class, (C,).
        chance: Shared ones to expect of two unrelated rankings, n²/N, (C,).
        least: Shared among the least likely, (C,); a fraction where equal scores leave open which image is meant.
        most: Shared among the most likely, (C,).
        p_least: Chance that unrelated rankings share at least so many, 0..1, (C,).
        p_most: The same of the most likely.
        sizes: Images of each class, N, (C,).
    """

    n: Ints
    chance: Floats
    least: Floats
    most: Floats
    p_least: Floats
    p_most: Floats
    sizes: Ints

    def excess(self, end: str = "both") -> Estimate:
        """What all classes share beyond chance, of what they could: 0 is chance, 1 the same images.

        (Σ shared − Σ chance) / (Σ n − Σ chance). The interval is Wilson's, with the classes as they are. The two ends
        of a small class tell the same in part, for which they count less: their counts correlate by (n / (N − n))².

        Args:
            end: ``least``, ``most`` or ``both``.

        Returns:
            The excess; below 0 where less is shared than by chance.
        """
        ends = {"least": [self.least], "most": [self.most], "both": [self.least, self.most]}[end]
        trials, chance = len(ends) * int(self.n.sum()), len(ends) * float(self.chance.sum())
        if chance >= trials:
            return Estimate(np.nan, np.nan, np.nan, trials, "none")
        share = float(sum(values.sum() for values in ends)) / trials
        alike = (self.n / np.maximum(self.sizes - self.n, 1)) ** 2 if len(ends) > 1 else np.zeros(len(self.n))
        low, high = _wilson(share, float(np.sum(len(ends) * self.n / (1 + alike))))
        value, low, high = ((part * trials - chance) / (trials - chance) for part in (share, low, high))
        return Estimate(value, low, high, trials, "Wilson")


def rank(scores: ArrayLike, classes: ArrayLike | None = None, n_classes: int | None = None) -> Ranks:
    """Rank scores within classes.

    Args:
        scores: (N,), higher is likelier; no NaN.
        classes: Class of each image, 0..C−1, (N,); None puts all in one.
        n_classes: C, where the last classes may be empty.

    Returns:
        The ranks, in the order of the scores given.

    Raises:
        ValueError: The lengths differ, or a score is NaN.

    Example:
        >>> rank([3.0, 1.0, 3.0]).percentiles().round(1).tolist()
        [66.7, 16.7, 66.7]
    """
    values = np.asarray(scores)
    codes = np.zeros(len(values), np.int32) if classes is None else np.asarray(classes, np.int32)
    if codes.shape != values.shape or np.isnan(values).any():
        raise ValueError(f"one class for each score and no NaN, not {codes.shape} and {values.shape}")
    sizes = np.bincount(codes, minlength=n_classes or (1 if classes is None else 0))
    order = _sorted(codes, values)
    starts = _group_starts(codes[order], values[order])
    lengths = np.diff(starts, append=len(values))
    first = np.concatenate([[0], np.cumsum(sizes)])[codes[order[starts]]]  # where the group's class begins
    below, ties = np.empty((2, len(values)), np.int32)
    below[order], ties[order] = np.repeat(starts - first, lengths), np.repeat(lengths, lengths)
    return Ranks(below, ties, codes, sizes)


def spearman(a: Ranks, b: Ranks) -> Spread:
    """Spearman's rank correlation; of ranks within classes, the correlation within classes.

    With one class this is the usual coefficient, ties sharing their mean rank. With more, percentiles are centred in
    each class, so that differences between classes do not count.

    Args:
        a: Ranks of the images under one encoder.
        b: Under another one, in the same order and classes.

    Returns:
        ρ, −1..1, of all classes together or of each; NaN where a ranking is constant.
    """
    u, v = (ranks.percentiles() / 100 - 0.5 for ranks in (a, b))
    each = u * v + _mean_above(a, v) + _mean_above(b, u)
    return _spread(a, (u * v, u * u, v * v), each)


def kendall(a: Ranks, b: Ranks, *, most: int | None = KENDALL_MOST, seed: int = 0) -> Spread:
    """Kendall's τ-b; of ranks within classes, over the pairs of one class.

    Args:
        a: Ranks of the images under one encoder.
        b: Under another one, in the same order and classes.
        most: Most images; of more, a random sample is taken, which ``n`` of the result tells. None takes all.
        seed: Of that sample.

    Returns:
        τ-b, −1..1, of all classes together or of each; NaN where a ranking is constant.
    """
    if most is not None and len(a) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(a), most, replace=False))
        a, b = a.among(chosen), b.among(chosen)
    order = _sorted(a.classes, a.below, b.below)
    starts = _group_starts(a.classes[order], a.below[order], b.below[order])
    lengths = np.diff(starts, append=len(a))
    both = _put(np.repeat(lengths, lengths), order)  # equal in a and in b, itself among them
    discordant = _put(_inversions(a.classes[order], b.below[order]), order)
    size = a.sizes[a.classes]
    each = (size - a.ties - b.ties + both - 2 * discordant).astype(np.float64)
    return _spread(a, (each / 2, (size - a.ties) / 2, (size - b.ties) / 2), each)


def overlap(a: Ranks, b: Ranks, n: int) -> Overlap:
    """Count the images that two encoders both have among the n least or most likely of a class.

    Args:
        a: Ranks within classes under one encoder.
        b: Under another one, in the same order and classes.
        n: Images at each end, at least 1.

    Returns:
        Counts of each class, beside chance.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"at least one image at each end, not {n}")
    taken = np.minimum(n, a.sizes // 2)
    least, most = (_shared(a, b, taken, *beyond) for beyond in ((a.below, b.below), (a.above(), b.above())))
    p_least, p_most = (_chance_of(values, a.sizes, taken) for values in (least, most))
    return Overlap(taken, taken**2 / np.maximum(a.sizes, 1), least, most, p_least, p_most, a.sizes)


def disagreements(a: Ranks, b: Ranks, most: int) -> tuple[Ints, Ints]:
    """Images that one encoder finds likely and the other strange: those whose percentiles differ most.

    Args:
        a: Ranks of the images under one encoder.
        b: Under another one, in the same order and classes.
        most: Most images of each kind.

    Returns:
        Places of the images that ``a`` finds likelier, and of those that ``b`` does, largest difference first.
    """
    difference = a.percentiles() - b.percentiles()
    return _largest(difference, most), _largest(-difference, most)


def _largest(values: Floats, most: int) -> Ints:
    """Places of the largest positive values, largest first."""
    most = min(most, len(values))
    near = np.argpartition(-values, most - 1)[:most] if most else np.zeros(0, np.int64)
    return np.array(sorted((i for i in near if values[i] > 0), key=lambda i: (-values[i], i)), np.int64)


def _shared(a: Ranks, b: Ranks, n: Ints, beyond_a: Ints, beyond_b: Ints) -> Floats:
    """How many of the n outermost images of each class two encoders share, (C,).

    Where equal scores leave open which images are meant, the mean over all orders of them.

    Args:
        a: Ranks under one encoder.
        b: Under the other.
        n: Images of each class, (C,).
        beyond_a: Images of its class that lie further out than each, (N,).
        beyond_b: The same under the other encoder.
    """
    most = n[a.classes]
    inner = np.flatnonzero((beyond_a < most) & (beyond_b < most))
    chance = np.ones(len(inner))
    for ranks, beyond in ((a, beyond_a), (b, beyond_b)):
        chance *= np.minimum(most[inner] - beyond[inner], ranks.ties[inner]) / ranks.ties[inner]
    return np.bincount(a.classes[inner], chance, len(a.sizes)).astype(float)


def _chance_of(shared: Floats, sizes: Ints, n: Ints) -> Floats:
    """Chance that two unrelated draws of n of N images share at least so many, (C,)."""
    from scipy.stats import hypergeom  # half a second, which no page should wait for that compares nothing

    cases = np.stack([np.floor(shared + 1e-9).astype(np.int64), sizes, n], axis=1)
    distinct, inverse = np.unique(cases, axis=0, return_inverse=True)
    return hypergeom.sf(distinct[:, 0] - 1, distinct[:, 1], distinct[:, 2], distinct[:, 2])[inverse.ravel()]


def _fisher(value: ArrayLike, deviation: ArrayLike) -> tuple[Floats, Floats]:
    """Interval of a correlation from its standard deviation, through z; none where it is exactly ±1."""
    value = np.asarray(value, np.float64)
    sure = np.abs(value) >= 1
    inside = np.where(sure, 0.0, value)
    half = _Z95 * np.asarray(deviation) / (1 - inside**2)
    low, high = (np.where(sure, value, np.tanh(np.arctanh(inside) + sign * half)) for sign in (-1, 1))
    return low, high


def _mean_above(ranks: Ranks, values: Floats) -> Floats:
    """For each image, the sum of values over images of its class that rank above it, equal ones half, by class size.

    This is what one more image at that place would change in the sum of products.
    """
    slots, ends = ranks.slots(), np.cumsum(np.bincount(ranks.classes, values, len(ranks.sizes)))
    equal = np.bincount(slots, values, len(ranks))  # (N,), summed where the equal ones begin
    above = ends[ranks.classes] - np.cumsum(equal)[slots] + equal[slots] / 2
    return above / ranks.sizes[ranks.classes]


def _spread(ranks: Ranks, parts: tuple[Floats, Floats, Floats], each: Floats) -> Spread:
    """Sums over classes of what images add; ``each`` is what one more of its kind would change, (N,)."""
    product, square_a, square_b = (np.bincount(ranks.classes, x, len(ranks.sizes)).astype(float) for x in parts)
    return Spread(product, square_a, square_b, _variance(ranks, each), ranks.sizes)


def _variance(ranks: Ranks, each: Floats) -> Floats:
    """Variance of a sum over each class from what each of its images adds, (C,)."""
    means = np.bincount(ranks.classes, each, len(ranks.sizes)) / np.maximum(ranks.sizes, 1)
    squares = np.bincount(ranks.classes, (each - means[ranks.classes]) ** 2, len(ranks.sizes))
    return squares * ranks.sizes / np.maximum(ranks.sizes - 1, 1)


def _inversions(classes: NDArray[np.int32], values: NDArray[np.int32]) -> Ints:
    """How many others of its class each value stands in the wrong order with: larger before it or smaller after it.

    Values are sorted bit by bit, from the highest; a pair comes apart at the highest bit in which it differs, and
    then its order tells.

    Args:
        classes: (N,), ascending.
        values: Not negative, (N,).

    Returns:
        (N,).
    """
    bits = int(values.max(initial=0)).bit_length()
    code = (classes.astype(np.int64) << bits) | values  # (N,)
    where, found = np.arange(len(code)), np.zeros(len(code), np.int64)
    for bit in reversed(range(bits)):
        one = (code >> bit) & 1
        starts = _group_starts(code >> (bit + 1))
        group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(code)))
        before = np.cumsum(one) - one  # ones before each, in all groups
        ones_before = before - before[starts][group]
        zeros_before = np.arange(len(code)) - starts[group] - ones_before
        zeros = np.add.reduceat(1 - one, starts)[group]
        found += np.where(one, zeros - zeros_before, ones_before)
        place = starts[group] + np.where(one, zeros + ones_before, zeros_before)
        code, where, found = (_put(x, place) for x in (code, where, found))
    return _put(found, where)


def _put(values: NDArray, places: Ints) -> NDArray:
    """Values at new places."""
    moved = np.empty_like(values)
    moved[places] = values
    return moved


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's interval of a share of n."""
    middle = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * sqrt(max(share * (1 - share), 0) / n + _Z95**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _sorted(classes: NDArray[np.int32], *keys: NDArray) -> Ints:
    """Order by class, then by the keys, one after the other; quick where the last is sorted already."""
    order = np.arange(len(classes))
    for key in (*reversed(keys), classes.astype(np.uint16) if classes.max(initial=0) < 2**16 else classes):
        order = order[np.argsort(key[order], kind="stable")]
    return order


def _group_starts(*keys: NDArray) -> Ints:
    """Where a new value begins in sorted keys."""
    if not len(keys[0]):
        return np.zeros(0, np.int64)
    change = np.zeros(len(keys[0]) - 1, bool)
    for key in keys:
        change |= key[1:] != key[:-1]
    return np.concatenate([[0], np.flatnonzero(change) + 1])
