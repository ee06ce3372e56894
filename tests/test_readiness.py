"""How an encoder takes to a domain: measures with known answers, and sentences that say no more than they do."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier
from typer.testing import CliRunner

from jepascore_core import readiness, store
from jepascore_core.__main__ import app
from jepascore_core.coverage import coverage, expected_coverage, jackknife, wilson
from jepascore_core.curation.probes import TEMPERATURE
from jepascore_core.effective_rank import effective_rank, embedding_rank
from jepascore_core.errors import RunError
from jepascore_core.readiness import assess, differs, leave_one_out, low_share, sentence
from tests.runs_made import made_run

RUNNER = CliRunner()


def cloud(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def brute(domain: np.ndarray, reference: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Coverage and density as Naeem et al. write them, in loops."""
    covered, balls = 0, 0
    for i, x in enumerate(domain):
        others = sorted(float(np.linalg.norm(x - y)) for j, y in enumerate(domain) if j != i)
        inside = [np.linalg.norm(x - y) <= others[k - 1] for y in reference]
        covered, balls = covered + any(inside), balls + sum(inside)
    return covered / len(domain), balls / k / len(reference)


def test_coverage_and_density_are_those_of_the_paper():
    a, b = cloud(60, 3), cloud(60, 3, 1) + 0.7
    found = coverage(a, b.astype(np.float32))
    assert (found.coverage.value, found.density.value) == pytest.approx(brute(a.astype(float), b.astype(float)))
    assert found.n == 60 and found.coverage.low <= found.coverage.value <= found.coverage.high


def test_of_two_alike_coverage_is_what_lemma_2_expects():
    found = [coverage(cloud(150, 4, seed), cloud(150, 4, 1000 + seed)) for seed in range(20)]
    mean = np.mean([one.coverage.value for one in found])
    assert mean == pytest.approx(expected_coverage(150, 150, 5), abs=0.01)
    assert sum(one.coverage.high >= one.expected for one in found) >= 19


def test_intervals_hold_the_mean_of_other_draws():
    found = [coverage(cloud(80, 4, seed), cloud(80, 4, 500 + seed) + np.float32(0.8)) for seed in range(40)]
    for name in ("coverage", "density"):
        each = [getattr(one, name) for one in found]
        mean = np.mean([one.value for one in each])
        assert sum(one.low <= mean <= one.high for one in each) >= 35


def test_what_is_far_away_covers_nothing_and_is_not_certain():
    found = coverage(cloud(50, 4), cloud(50, 4) + 100)
    assert found.coverage.value == 0 and 0 < found.coverage.high < 0.15
    with pytest.raises(ValueError, match="at least 40 images"):
        coverage(cloud(39, 4), cloud(50, 4))
    with pytest.raises(ValueError, match="cannot be compared"):
        coverage(cloud(50, 4), cloud(50, 5))


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=400)
    (mean,), (error,) = jackknife(lambda left: np.array([x[left].mean()]), np.arange(400))
    assert (mean, error) == pytest.approx((x.mean(), stats.sem(x)))


def test_wilson_is_scipys():
    expected = stats.binomtest(3, 40).proportion_ci(method="wilson")
    assert (wilson(3, 40).low, wilson(3, 40).high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_effective_rank_of_known_spectra():
    assert effective_rank([1, 1, 1, 0]) == pytest.approx(3) and effective_rank([5, 0]) == 1
    assert embedding_rank(cloud(20_000, 6)) == pytest.approx(6, abs=0.01)
    assert embedding_rank(cloud(4000, 2) @ cloud(2, 9, 1)) <= 2
    assert embedding_rank(np.full((30, 4), 7.3, np.float32)) == 0
    few = cloud(10, 50)
    assert 5 < embedding_rank(few) <= 9


def test_share_below_the_quantile_and_its_interval():
    rng = np.random.default_rng(0)
    hits, width = 0, []
    for seed in range(60):
        found = low_share(rng.normal(size=300), rng.normal(-1, 1, 200), seed=seed)
        hits += found.low <= stats.norm.cdf(stats.norm.ppf(0.05) + 1) <= found.high
        width.append(found.high - found.low)
    assert hits >= 53 and 0.1 < np.mean(width) < 0.3
    assert low_share(np.arange(100.0), np.arange(100.0)).value == pytest.approx(0.04)
    none = low_share(np.arange(100.0), np.arange(100.0) + 1000)
    assert none.value == 0 and 0 < none.high < 0.05


def test_leave_one_out_is_scikit_learns(monkeypatch: pytest.MonkeyPatch):
    x, y = cloud(90, 4), np.arange(90) % 3
    model = KNeighborsClassifier(
        5, metric="cosine", weights=lambda d: np.exp(-d / TEMPERATURE) + 1e-300, algorithm="brute"
    )
    expected = [model.fit(np.delete(x, i, 0), np.delete(y, i)).predict(x[i : i + 1])[0] for i in range(90)]
    assert leave_one_out(x, y).tolist() == expected
    monkeypatch.setattr(readiness, "_BLOCK_CELLS", 500)
    assert leave_one_out(x, y).tolist() == expected
    assert set(leave_one_out(x[:3], y[:3])) <= {0, 1, 2}


def test_classes_that_are_noise_are_seldom_told_apart():
    found = [readiness.knn_accuracy(cloud(150, 6, seed), np.arange(150) % 2) for seed in range(100)]
    assert sum(one.low > 0.5 for one in found) <= 7 and sum(one.high < 0.5 for one in found) <= 9
    mean = np.mean([one.value for one in found])
    assert mean == pytest.approx(0.5, abs=0.02) and sum(one.low <= mean <= one.high for one in found) >= 90


# runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, store.Run]:
    """A home, a twin of it, a far domain with classes, one whose classes are noise, and one of another encoder."""
    folder, rng = tmp_path_factory.mktemp("readiness") / "runs", np.random.default_rng(0)
    y = np.arange(120) % 3
    far = (rng.normal(size=(3, 6))[y] * 4 + rng.normal(size=(120, 6)) + 30).astype(np.float32)
    return {
        "home": made_run(folder, cloud(150, 6), np.arange(150) % 2, rng.normal(0, 1, 150), seed=1),
        "twin": made_run(folder, cloud(150, 6, 1), np.arange(150) % 2, rng.normal(0, 1, 150), seed=2),
        "far": made_run(folder, far, y, rng.normal(-3, 1, 120), seed=3),
        "other": made_run(folder, far, y, rng.normal(-3, 1, 120), seed=3, encoder="other"),
        "few": made_run(folder, cloud(3, 6), np.arange(3), rng.normal(size=3), seed=4),
        "one": made_run(folder, cloud(60, 6, 3), np.zeros(60, int), rng.normal(size=60), seed=5),
        "bare": made_run(folder, None, None, rng.normal(size=60), seed=6),
    }


def test_a_far_domain_differs_and_its_classes_lie_apart(runs: dict[str, store.Run]):
    found = assess(runs["far"], [runs["home"], runs["twin"]])
    (home, _) = found.beside
    assert home.separation is not None and home.separation.direction == "lower" and home.separation.low > 0.95
    assert home.coverage is not None and home.coverage.coverage.value == 0 and home.low.value > 0.7 and differs(home)
    assert (
        found.probed is not None and found.probed.accuracy.low > 0.8 and found.probed.majority == pytest.approx(1 / 3)
    )
    assert found.rank.value < home.rank.value <= 6 and found.rank_images == 120
    told = sentence(found)
    assert "set3 differs measurably from set1 (its scores lie lower" in told and " and set2 (" in told
    assert "Its classes lie apart" in told


def test_a_twin_cannot_be_told_from_its_reference(runs: dict[str, store.Run]):
    found = assess(runs["twin"], [runs["home"]])
    told = sentence(found)
    assert differs(found.beside[0]) is False and "cannot be told from set1" in told
    assert "does not show that they are alike" in told
    assert "Whether its classes lie apart is undecided" in told


@pytest.mark.parametrize("name", ["few", "one", "bare", "far", "twin"])
def test_a_sentence_never_says_ready(name: str, runs: dict[str, store.Run]):
    found = assess(runs[name], [runs["home"]])
    told = sentence(found)
    assert "ready" not in told.lower() and "nan" not in told and told.endswith("not measured.")
    assert "nan" not in " ".join(value for _, value in readiness.table(found))


def test_what_a_run_lacks_is_said(runs: dict[str, store.Run]):
    assert "one class only" in sentence(assess(runs["one"], [runs["home"]]))
    bare = assess(runs["bare"], [runs["home"]])
    assert bare.probed is None and "no embeddings" in sentence(bare) and "no embeddings" in bare.why_no_rank
    few = assess(runs["few"], [runs["home"]])
    assert (
        few.beside[0].coverage is None
        and "at least 40 images" in few.beside[0].why
        and few.rank.value != few.rank.value
    )


def test_what_cannot_be_compared_is_refused(runs: dict[str, store.Run]):
    with pytest.raises(RunError, match="at least one reference"):
        assess(runs["far"], [])
    with pytest.raises(RunError, match="another encoder"):
        assess(runs["far"], [runs["home"], runs["other"]])
    with pytest.raises(RunError, match="of the same images"):
        assess(runs["home"], [runs["home"]])
    with pytest.raises(RunError, match="two Gaussians"):
        assess(runs["far"], [runs["home"]], store.ScoreRule("corrected"))


def test_the_command_prints_sentence_table_and_strict_json(runs: dict[str, store.Run]):
    arguments = ["readiness", str(runs["far"].path), "--reference", str(runs["home"].path)]
    done = RUNNER.invoke(app, [*arguments, "--reference", str(runs["bare"].path), "--json"])
    assert done.exit_code == 0, done.exception

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    facts = json.loads(done.stdout, parse_constant=refuse)
    assert facts["score"] == "raw" and facts["sentence"].startswith("To tiny, set3 differs")
    assert facts["beside"][0]["coverage"]["coverage"]["value"] == 0 and facts["beside"][1]["coverage"] is None
    assert facts["beside"][1]["rank"]["value"] is None
    told = RUNNER.invoke(app, arguments)
    assert told.exit_code == 0 and "effective rank, 120 images" in told.stdout and "set1: coverage" in told.stdout


def test_a_broken_reference_is_one_sentence(runs: dict[str, store.Run], tmp_path: Path):
    done = RUNNER.invoke(app, ["readiness", str(runs["far"].path), "--reference", str(tmp_path / "none")])
    assert isinstance(done.exception, RunError)
