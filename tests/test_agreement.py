"""Agreement of two rankings: known answers, scipy, and intervals that hold what they promise."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from jepascore_core.agreement import (
    disagreements,
    kendall,
    overlap,
    rank,
    spearman,
)

RNG = np.random.default_rng(0)


def pair(n: int, rho: float, *, rounded: int | None = None, rng: np.random.Generator = RNG):
    """Two scores of n images that correlate; with ``rounded``, many are equal."""
    x = rng.normal(size=n)
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
    return (x, y) if rounded is None else (x.round(rounded), y.round(rounded))


@pytest.mark.parametrize("n", [3, 10, 300])
@pytest.mark.parametrize("rounded", [None, 0])
@pytest.mark.parametrize("rho", [-0.8, 0.0, 0.6])
def test_both_correlations_are_those_of_scipy(n: int, rounded: int | None, rho: float):
    x, y = pair(n, rho, rounded=rounded)
    x[0], y[-1] = x[0] + 1, y[-1] + 1  # three rounded values may all be equal
    a, b = rank(x), rank(y)
    assert spearman(a, b).together().value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12, nan_ok=True)
    assert kendall(a, b).together().value == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_identical_and_reversed_rankings_are_certain(measure):
    a = rank(np.arange(50.0))
    same = measure(a, rank(np.exp(np.arange(50.0) / 9))).together()
    reverse = measure(a, rank(-np.arange(50.0))).together()
    assert [same.value, same.low, same.high] == [1, 1, 1]
    assert [reverse.value, reverse.low, reverse.high] == [-1, -1, -1]


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_what_does_not_vary_has_no_correlation(measure):
    for a, b in ((rank([1.0, 1, 1, 1]), rank([1.0, 2, 3, 4])), (rank([1.0]), rank([1.0])), (rank([]), rank([]))):
        assert np.isnan(measure(a, b).together().value)
    few = measure(rank([1.0, 2, 3]), rank([1.0, 3, 2])).together()
    assert np.isfinite(few.value) and np.isnan(few.low)


def test_within_classes_is_what_each_class_says():
    classes = RNG.integers(0, 4, 200)
    x, y = pair(200, 0.5, rounded=1)
    a, b = rank(x + 10 * classes, classes), rank(y - 7 * classes, classes)
    for measure, theirs in ((spearman, stats.spearmanr), (kendall, stats.kendalltau)):
        value, low, high = measure(a, b).of_classes()
        for name in range(4):
            mine = classes == name
            assert value[name] == pytest.approx(theirs(x[mine], y[mine]).statistic, abs=1e-12)
        assert np.all((low < value) & (value < high))
    centred = [ranks.percentiles() - 50 for ranks in (a, b)]
    assert spearman(a, b).together().value == pytest.approx(np.corrcoef(*centred)[0, 1], abs=1e-12)
    apart = spearman(rank(x + 10 * classes), rank(y - 7 * classes)).together()
    assert spearman(a, b).together().value > 0.3 > 0 > apart.value


def test_kendall_within_classes_counts_the_pairs_of_every_class():
    classes = np.repeat([0, 1, 2], [5, 1, 8])
    x, y = pair(14, 0.3)
    pairs = [(i, j) for i in range(14) for j in range(i) if classes[i] == classes[j]]
    agree = np.mean([np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in pairs])
    assert kendall(rank(x, classes), rank(y, classes)).together().value == pytest.approx(agree, abs=1e-12)


def heavy(n: int, rho: float, rng: np.random.Generator):
    """Scores that some images push far out under both encoders: no normal distribution."""
    x, y = pair(n, rho, rng=rng)
    spread = np.abs(rng.standard_t(2, size=n))
    return x * spread, y * spread


@pytest.mark.parametrize(("classes", "size"), [(1, 60), (7, 30), (150, 4)])
@pytest.mark.parametrize("draw", [pair, heavy])
def test_intervals_hold_the_truth(classes: int, size: int, draw):
    rng, codes = np.random.default_rng(3), np.repeat(np.arange(classes), size)

    def drawn():
        x, y = draw(classes * size, 0.6, rng=rng)
        return rank(x, codes), rank(y, codes)

    def estimates(a, b):
        return spearman(a, b).together(), kendall(a, b).together(), overlap(a, b, size // 5 + 1).excess()

    many = [estimates(*drawn()) for _ in range(300)]
    for measured in zip(*many, strict=True):
        truth = np.mean([estimate.value for estimate in measured])
        assert np.mean([estimate.low <= truth <= estimate.high for estimate in measured]) > 0.9
        assert np.mean([estimate.high - estimate.low for estimate in measured]) < 0.6


def test_kendall_of_many_images_takes_a_seeded_sample_and_says_so():
    a, b = (rank(scores) for scores in pair(20_000, 0.5))
    exact, sampled = (kendall(a, b, most=most).together() for most in (None, 2000))
    assert (exact.n, sampled.n) == (20_000, 2000)
    assert sampled == kendall(a, b, most=2000).together() != kendall(a, b, most=2000, seed=1).together()
    assert sampled.low < exact.value < sampled.high
    assert sampled.high - sampled.low > 2 * (exact.high - exact.low)


@pytest.mark.parametrize("few", [40, 400])
def test_ranks_among_some_images_are_their_ranks(few: int):
    scores, classes = RNG.normal(size=1000).round(1), RNG.integers(0, 5, 1000)
    chosen = RNG.choice(1000, few, replace=False)
    some, fresh = rank(scores, classes).among(chosen), rank(scores[chosen], classes[chosen], 5)
    for name in ("below", "ties", "classes", "sizes"):
        assert np.array_equal(getattr(some, name), getattr(fresh, name)), name


def test_percentiles_are_mid_ranks():
    ranks = rank([5.0, 1.0, 5.0, 9.0], [0, 0, 0, 1])
    assert ranks.percentiles() == pytest.approx(100 * np.array([2 / 3, 1 / 6, 2 / 3, 1 / 2]))
    assert ranks.percentiles_of(np.array([3, 1])) == pytest.approx([50, 100 / 6])


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        rank([1.0, np.nan])
    with pytest.raises(ValueError, match="at least one image"):
        overlap(rank([1.0, 2.0]), rank([1.0, 2.0]), 0)


def test_the_same_and_the_opposite_extremes():
    scores, classes = RNG.normal(size=60), np.repeat([0, 1, 2], 20)
    a = rank(scores, classes)
    same, opposite = overlap(a, a, 4), overlap(a, rank(-scores, classes), 4)
    assert list(same.least) == list(same.most) == [4, 4, 4]
    assert list(opposite.least) == list(opposite.most) == [0, 0, 0]
    assert same.chance == pytest.approx([0.8] * 3)
    assert same.excess().value == 1 and same.excess().high == 1 and same.excess().low > 0.7
    assert opposite.excess().value == pytest.approx(-0.8 / 3.2) and opposite.excess().n == 24


def test_chance_and_p_are_those_of_all_orders():
    least = [overlap(rank(np.arange(6.0)), rank(np.array(order, float)), 2) for order in permutations(range(6))]
    counts = np.array([found.least[0] for found in least])
    assert counts.mean() == pytest.approx(least[0].chance[0]) == pytest.approx(2 / 3)
    for found in least[:50]:
        assert found.p_least[0] == pytest.approx(np.mean(counts >= found.least[0]))


def test_equal_scores_share_no_more_than_chance():
    constant = rank(np.zeros(40))
    ends = overlap(constant, constant, 5)
    assert ends.least[0] == pytest.approx(25 / 40) and ends.excess().value == pytest.approx(0)
    half = overlap(rank([0.0, 1, 1, 1, 2, 3, 4, 5]), rank([0.0, 1, 1, 1, 2, 3, 4, 5]), 2)
    assert half.least[0] == pytest.approx(1 + 3 * (1 / 3) ** 2) and half.most[0] == 2


def test_at_most_half_of_a_class_is_an_extreme():
    classes = np.repeat([0, 1, 2], [7, 1, 30])
    ranks = rank(RNG.normal(size=38), classes)
    ends = overlap(ranks, ranks, 10)
    assert list(ends.n) == [3, 0, 10] and ends.least[1] == 0
    assert np.isnan(overlap(rank([1.0]), rank([1.0]), 3).excess().value)


def test_both_ends_of_a_pair_tell_the_same_once():
    classes = np.repeat(np.arange(50), 2)
    a, b = (rank(scores, classes) for scores in pair(100, 0.0))
    both, least = overlap(a, b, 1).excess(), overlap(a, b, 1).excess("least")
    assert (both.value, both.low, both.high) == pytest.approx((least.value, least.low, least.high))


def test_the_largest_disagreements_come_first():
    a, b = rank([0.0, 1, 2, 3, 4, 5]), rank([5.0, 1, 2, 3, 4, 0])
    first, second = disagreements(a, b, 3)
    assert list(first) == [5] and list(second) == [0]
    x, y = pair(500, 0.2)
    first, second = disagreements(rank(x), rank(y), 20)
    gap = stats.rankdata(x) - stats.rankdata(y)
    assert list(gap[first]) == sorted(gap, reverse=True)[:20]
    assert list(gap[second]) == sorted(gap)[:20]
    assert all(len(part) == 0 for part in disagreements(rank([]), rank([]), 3))
