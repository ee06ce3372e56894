"""Outliers: metrics and intervals against closed forms, fits that cannot leak, and the command."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import covariance, neighbors
from sklearn import metrics as sk
from typer.testing import CliRunner

from jepascore_core import outliers, score, store
from jepascore_core.__main__ import app
from jepascore_core.outliers import LeakError, OutlierError, baselines, evaluate, fitting, make_rows, variants
from jepascore_core.outliers.metrics import auroc, delong, holm, metrics, newcombe, placements, resamples, roc
from jepascore_core.outliers.rows import folds_of, sampled
from jepascore_core.outliers.sweep import choose_drop, over_eps, sweeps
from jepascore_core.runner import Hooks, score_work
from jepascore_core.separation import separation
from jepascore_core.store import ScoreRule
from tests.tiny import TinyDataset, tiny_encoder, tiny_work


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small forest, which is nearly all of the time that methods take."""
    monkeypatch.setattr(baselines, "TREES", 10)


FITTED = [method for method in outliers.methods() if method.fits]


def rows(name="in", n=300, dim=3, *, seed=0, shift=0.0, scale=1.0, classes=2, **options):
    """Gaussian embeddings, a spectrum and a score for each row."""
    generator = np.random.default_rng(seed)
    z = generator.normal(shift, scale, (n, dim))
    spectra = -np.sort(-np.exp(generator.normal(size=(n, dim))), axis=1)
    names = [f"class {number % classes}" for number in range(n)] if classes > 1 else None
    options = {"embeddings": z, "spectra": spectra, "class_names": names, **options}
    return make_rows(name, scores=np.log(spectra).sum(1), **options)


def scored_rows(name, scores):
    return make_rows(name, scores=np.asarray(scores, float))


# metrics


@pytest.mark.parametrize("decimals", [8, 1, 0])
@pytest.mark.parametrize("sizes", [(2, 2), (41, 7), (150, 200)])
def test_metrics_are_those_of_scikit_learn_ties_included(sizes, decimals):
    generator = np.random.default_rng(3)
    a, b = generator.normal(0.7, 1, sizes[0]).round(decimals), generator.normal(0, 1, sizes[1]).round(decimals)
    truth, values = np.repeat([1, 0], sizes), np.concatenate([a, b])
    found = metrics(a, b)
    fpr, tpr, _ = sk.roc_curve(truth, values, drop_intermediate=False)
    assert found.auroc.value == pytest.approx(sk.roc_auc_score(truth, values), abs=1e-12) == auroc(a, b)
    assert found.aupr.value == pytest.approx(sk.average_precision_score(truth, values), abs=1e-12)
    assert found.fpr95.value == pytest.approx(fpr[(tpr >= 0.95).argmax()], abs=1e-12)
    assert (found.n_in, found.n_out) == sizes


def test_resamples_are_those_of_scikit_learn_with_weights():
    generator = np.random.default_rng(4)
    a, b = generator.normal(0.5, 1, 40).round(1), generator.normal(0, 1, 30).round(1)
    weights = resamples(40, 30, seed=1, most=50)
    assert weights[0].shape == (40, 50) and (weights[0].sum(0) == 40).all() and (weights[1].sum(0) == 30).all()
    from jepascore_core.outliers.metrics import _weighted

    found = _weighted(a, b, weights)
    truth, values = np.repeat([1, 0], (40, 30)), np.concatenate([a, b])
    for number in (0, 7, 49):
        counts = np.concatenate([side[:, number] for side in weights])
        kept = counts > 0
        assert found[0, number] == pytest.approx(
            sk.roc_auc_score(truth[kept], values[kept], sample_weight=counts[kept])
        )
        expected = sk.average_precision_score(truth[kept], values[kept], sample_weight=counts[kept])
        assert found[1, number] == pytest.approx(expected)


@pytest.mark.parametrize("delta", [0.0, 0.5, 2.0, -1.0])
def test_auroc_of_two_gaussians(delta):
    quantiles = stats.norm.ppf((np.arange(1500) + 0.5) / 1500)
    inside, other = scored_rows("in", quantiles + delta), scored_rows("out", quantiles)
    (found,) = [one for one in evaluate(inside, [other]).findings if one.method.name == "jepa_score"]
    truth = stats.norm.cdf(delta / np.sqrt(2))
    assert found.metrics.auroc.value == pytest.approx(truth, abs=1e-3)
    assert found.metrics.auroc.low < truth < found.metrics.auroc.high
    assert found.metrics.auroc.high - found.metrics.auroc.low < 0.045
    assert found.metrics.direction == {0.0: "undecided", -1.0: "inverted"}.get(delta, "holds")


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(5)
    delta, trials = 1.0, 160
    true_auroc = stats.norm.cdf(delta / np.sqrt(2))
    true_fpr = stats.norm.sf(delta + stats.norm.ppf(0.05))
    many = generator.normal(delta, 1, 400_000), generator.normal(0, 1, 600_000)
    true_aupr = sk.average_precision_score(np.repeat([1, 0], (400_000, 600_000)), np.concatenate(many))
    hits = np.zeros(3)
    for number in range(trials):
        a, b = generator.normal(delta, 1, 80), generator.normal(0, 1, 120)
        found = metrics(a, b, resamples(80, 120, seed=number, most=400))
        truths = zip((found.auroc, found.aupr, found.fpr95), (true_auroc, true_aupr, true_fpr), strict=True)
        hits += [part.low <= truth <= part.high for part, truth in truths]
    assert (hits / trials > 0.89).all(), hits / trials  # three standard errors below 0.95 are 0.898
    assert hits[0] / trials < 0.99


def test_perfect_separation_is_no_certainty():
    found = metrics(np.arange(10.0) + 20, np.arange(10.0))
    assert found.separated and found.auroc.value == 1 and 0.6 < found.auroc.low < 0.9 and found.auroc.high == 1
    assert found.fpr95.low == 0 and found.fpr95.high == pytest.approx(1 - 0.05**0.1)
    inverted = metrics(np.arange(10.0), np.arange(10.0) + 20)
    assert inverted.auroc.value == 0 and inverted.auroc.high == pytest.approx(1 - found.auroc.low)
    assert inverted.direction == "inverted"
    low, high = newcombe(0.8, 50, 50)  # its ends are where the distance is 1.96 standard errors of that end
    for end in (low, high):
        q1, q2 = end / (2 - end), 2 * end**2 / (1 + end)
        variance = (end * (1 - end) + 49 * (q1 - end**2) + 49 * (q2 - end**2)) / 2500
        assert abs(0.8 - end) == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-6)


def test_one_row_has_no_metrics():
    with pytest.raises(ValueError, match="two rows"):
        metrics(np.array([1.0]), np.array([1.0, 2.0]))


def test_roc_is_the_curve_and_ends_in_its_corners():
    generator = np.random.default_rng(6)
    a, b = generator.normal(1, 1, 500).round(1), generator.normal(0, 1, 400).round(1)
    fpr, tpr = roc(a, b)
    expected_fpr, expected_tpr, _ = sk.roc_curve(np.repeat([1, 0], (500, 400)), np.concatenate([a, b]))
    assert np.interp(expected_fpr, fpr, tpr) == pytest.approx(np.interp(expected_fpr, expected_fpr, expected_tpr))
    many = roc(generator.normal(size=20_000), generator.normal(size=20_000))
    assert len(many[0]) <= 402 and all((curve[0], curve[-1]) == (0, 1) for curve in many)
    assert sk.auc(fpr, tpr) == pytest.approx(auroc(a, b))


def test_paired_test_is_delongs():
    generator = np.random.default_rng(7)
    a, b = generator.normal(1, 1, 60), generator.normal(0, 1, 50)
    c, d = a + generator.normal(0, 1, 60), b + generator.normal(0, 1, 50)
    wins = [[np.mean([(x > y) + (x == y) / 2 for y in out]) for x in inside] for inside, out in ((a, b), (c, d))]
    losses = [[np.mean([(x > y) + (x == y) / 2 for x in inside]) for y in out] for inside, out in ((a, b), (c, d))]
    covariance_ = np.cov(wins) / 60 + np.cov(losses) / 50  # DeLong et al., eq. (5)
    difference, p = delong((a, b), (c, d))
    z = difference / np.sqrt(covariance_[0, 0] + covariance_[1, 1] - 2 * covariance_[0, 1])
    assert difference == pytest.approx(np.mean(wins[0]) - np.mean(wins[1]))
    assert p == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert placements(a, b)[0] == pytest.approx(wins[0]) and placements(a, b)[1] == pytest.approx(losses[0])
    deviation = np.sqrt(covariance_[0, 0])
    assert separation(a, b).high - separation(a, b).low == pytest.approx(2 * 1.959964 * deviation)
    assert delong((a, b), (a, b)) == (0.0, 1.0)


def test_holm_never_falls_below_an_earlier_one():
    assert holm({"a": 0.01, "b": 0.011, "c": 0.9, "d": 0.02}) == pytest.approx({
        "a": 0.04,
        "b": 0.04,
        "d": 0.04,
        "c": 0.9,
    })
    assert holm({"a": 0.7, "b": 0.6}) == {"b": 1.0, "a": 1.0} and holm({}) == {}


# fits that cannot leak


@pytest.mark.parametrize("method", FITTED, ids=lambda method: method.name)
def test_a_model_refuses_the_rows_that_it_was_fitted_to(method):
    inside = rows(n=80)
    model = fitting.Fitted(method, inside.take(np.arange(60)))
    assert np.isfinite(model.judge(inside.take(np.arange(60, 80)))).all()
    for leak in (inside, inside.take(np.arange(59, 70)), inside.take(np.array([3]), name="renamed")):
        with pytest.raises(LeakError, match="never judges"):
            model.judge(leak)
    elsewhere = rows(n=80, dataset="another")  # the same keys, of another dataset
    assert np.isfinite(model.judge(elsewhere)).all()


@pytest.mark.parametrize("method", FITTED, ids=lambda method: method.name)
@pytest.mark.parametrize("dim", [2, 60])
def test_rows_of_one_kind_are_not_told_apart(method, dim):
    """A fit that judges its own rows would place them above others, the more so with more dimensions than rows."""
    found = evaluate(rows(n=150, dim=dim), [rows("out", n=150, dim=dim, seed=9)], wanted=[method]).findings[0]
    assert abs(found.metrics.auroc.value - 0.5) < 0.13  # four standard deviations


@pytest.mark.parametrize("method", [m for m in FITTED if m.name != "jepa_score_class"], ids=lambda method: method.name)
def test_each_row_is_judged_by_the_other_folds(method):
    inside, other = rows(n=120), rows("out", n=40, seed=3)
    judged = fitting.cross_fit(method, inside, [other], seed=2)
    folds = folds_of(inside.keys, 5, 2)
    model = fitting.Fitted(method, inside.take(folds != 1), seed=2)
    assert judged.values_in[folds == 1] == pytest.approx(model.judge(inside.take(folds == 1)))
    theirs = folds_of(other.keys, 5, 2) == 1
    assert judged.values_out[0][theirs] == pytest.approx(model.judge(other.take(theirs)))
    assert sum(120 - n for n in judged.rows_fitted) == 120 and "5 folds" in judged.rows


def test_folds_are_a_hash_of_the_key_alone():
    keys = np.array([f"cat/{number}.png" for number in range(1000)], dtype=object)
    folds = folds_of(keys, 5)
    assert folds[:10].tolist() == [0, 0, 0, 3, 1, 3, 4, 4, 1, 0]  # the same on every machine and in every version
    assert folds_of(keys[::-1], 5)[::-1].tolist() == folds.tolist() == folds_of(keys, 5).tolist()
    assert folds_of(keys[7:8], 5)[0] == folds[7] and (folds_of(keys, 5, seed=1) != folds).mean() > 0.7
    assert np.bincount(folds).min() > 150
    here, there = (make_rows(name, scores=np.zeros(3)).identities for name in "ab")
    assert not set(here.tolist()) & set(there.tolist())


def test_a_sample_is_seeded_and_nested():
    identities = make_rows("a", scores=np.zeros(500)).identities
    kept, more = sampled(identities, 50), sampled(identities, 80)
    assert len(kept) == 50 and set(kept) < set(more) and sampled(identities, 500).tolist() == list(range(500))
    assert set(sampled(identities, 50, seed=1)) != set(kept)


def test_copies_under_another_key_are_told():
    inside = rows(n=60)
    twice = rows("out", n=20, embeddings=np.asarray(inside.embeddings)[:20], keys=[f"copy {i}" for i in range(20)])
    found = evaluate(inside, [twice], wanted=[outliers.method_named("knn")]).findings[0]
    assert any("exact cop" in words and "out" in words for words in found.warnings)
    shared = evaluate(inside, [inside.take(np.arange(10), name="part")]).warnings
    assert any("10 images of part are also in in" in words for words in shared)


# baselines


def test_fitted_methods_reach_a_closed_form():
    """In two dimensions, N(0, I) against N(0, 4 I): the squared lengths are exponential, AUROC is 4 / 5."""
    found = evaluate(rows(n=2500, dim=2, classes=1), [rows("out", n=2500, dim=2, seed=1, scale=2.0)])
    for name in ("gaussian", "mahalanobis"):
        measured = found.finding(0, name).metrics.auroc
        assert measured.low < 0.8 < measured.high and found.finding(0, name).p < 1e-6
    assert abs(found.finding(0, "jepa_score").metrics.auroc.value - 0.5) < 0.03
    assert found.finding(0, "embedding_norm").metrics.auroc.value == pytest.approx(0.2, abs=0.03)  # the wrong way


def test_baselines_are_what_they_are_called():
    generator = np.random.default_rng(8)
    z, asked = generator.normal(size=(90, 4)) @ generator.normal(size=(4, 4)) + 5, generator.normal(size=(20, 4))
    one, two = np.full(90, "", object), np.array(["a", "b"] * 45, object)
    shrunk = covariance.LedoitWolf().fit(z)
    log_density = stats.multivariate_normal(z.mean(0), shrunk.covariance_).logpdf(asked)
    assert baselines.gaussian(z, one, 0).judge(asked) == pytest.approx(log_density)
    assert baselines.mahalanobis(z, one, 0).judge(asked) == pytest.approx(-shrunk.mahalanobis(asked))
    means = np.stack([z[two == name].mean(0) for name in "ab"])
    apart = z - means[[0, 1] * 45]
    within = np.linalg.inv(covariance.LedoitWolf(assume_centered=True).fit(apart).covariance_)
    squares = [[(row - mean) @ within @ (row - mean) for mean in means] for row in asked]
    assert baselines.mahalanobis(z, two, 0).judge(asked) == pytest.approx(-np.min(squares, axis=1))
    units = baselines.unit(z), baselines.unit(asked)
    distances = neighbors.NearestNeighbors(n_neighbors=4).fit(units[0]).kneighbors(units[1])[0][:, 3]
    assert baselines.knn(z, one, 0).judge(asked) == pytest.approx(-distances, rel=1e-4)  # k = 90 // 20
    direction = baselines.unit(units[0].mean(0, keepdims=True))[0]
    assert baselines.class_cosine(z, one, 0).judge(asked) == pytest.approx(units[1] @ direction)


def test_more_dimensions_than_rows_is_told_and_not_perfect():
    found = evaluate(rows(n=40, dim=200), [rows("out", n=60, dim=200, seed=1)])
    for name in ("gaussian", "mahalanobis", "spectrum_gaussian", "jepa_score_corrected"):
        one = found.finding(0, name)
        assert any("Fewer rows than dimensions" in words for words in one.warnings), name
        assert 0.1 < one.metrics.auroc.value < 0.9, name


def test_directions_in_which_nothing_varies_stay_finite():
    inside, other = rows(n=200, dim=6), rows("out", n=100, dim=6, seed=1)
    flat = [np.asarray(each.embeddings) * [1, 1, 1, 1, 1, 0] for each in (inside, other)]
    wanted = [outliers.method_named(name) for name in ("gaussian", "mahalanobis")]
    found = evaluate(rows(n=200, embeddings=flat[0]), [rows("out", n=100, embeddings=flat[1])], wanted=wanted)
    for one in found.findings:
        assert np.isfinite(found.judged[one.method.name].values_out[0]).all()
        assert abs(one.metrics.auroc.value - 0.5) < 0.2


def test_what_cannot_be_fitted_is_left_out_with_the_reason():
    constant = np.ones((60, 3))
    found = evaluate(rows(n=60, embeddings=constant), [rows("out", n=30, embeddings=constant[:30])])
    assert found.left_out["Gaussian"] == "the rows that it is fitted to do not vary"
    assert found.finding(0, "jepa_score") is not None and found.finding(0, "gaussian") is None
    few = evaluate(rows(n=6), [rows("out", n=6, seed=1)])
    assert "needed" in few.left_out["k-NN distance"] and any("rough" in words for words in few.warnings)
    assert "two classes" in evaluate(rows(classes=1), [rows("out", seed=1)]).left_out["JEPA-SCORE, per class"]


def test_rows_may_lack_embeddings_or_spectra():
    whole, other = rows(), rows("out", seed=1)
    found = evaluate(rows(embeddings=None), [other])
    assert found.left_out["k-NN distance"] == "in holds no embeddings" and found.finding(0, "jepa_score_tail")
    found = evaluate(whole, [rows("bare", spectra=None, seed=1)])
    assert found.left_out["Gaussian of the spectrum"] == "bare holds no singular values"
    assert found.finding(0, "jepa_score") and found.finding(0, "knn")
    bare = evaluate(scored_rows("a", np.arange(40)), [scored_rows("b", np.arange(30))])
    assert [one.method.name for one in bare.findings] == ["jepa_score"]


def test_rows_without_a_value_are_left_out_and_told():
    embeddings = np.asarray(rows().embeddings).copy()
    embeddings[:40] = np.nan
    found = evaluate(rows(embeddings=embeddings), [rows("out", seed=1)])
    one = found.finding(0, "knn")
    assert one.metrics.n_in == 260 and one.metrics.n_out == 300 and np.isfinite(one.p)
    assert any("40 of in" in words for words in one.warnings)
    assert found.finding(0, "jepa_score").metrics.n_in == 300
    nothing = scored_rows("a", np.full(40, np.nan))
    assert "finite" in evaluate(nothing, [scored_rows("b", np.arange(30))]).left_out["JEPA-SCORE"]


def test_sets_that_cannot_be_compared_are_refused():
    for inside, others, why in (
        (rows(), [], "at least one other"),
        (rows(), [rows("a"), rows("a")], "called"),
        (rows(n=1), [rows("a")], "1 scored image;"),
        (rows(encoder="x"), [rows("a", encoder="y")], "different encoders"),
        (rows(dim=3), [rows("a", dim=4)], "D = 3 and 4"),
    ):
        with pytest.raises(OutlierError, match=why):
            evaluate(inside, others)


def test_the_same_seed_gives_the_same_numbers():
    once, again = (outliers.as_facts(evaluate(rows(n=60), [rows("out", n=60, seed=1)], seed=4)) for _ in range(2))
    for one, other in zip(once, again, strict=True):
        assert repr(one | {"fit_s": 0, "judge_s": 0}) == repr(other | {"fit_s": 0, "judge_s": 0})


# score variants and sweeps


def test_variants_are_those_of_the_torch_score():
    spectra = np.asarray(rows(n=20, dim=7).spectra)
    spectra[:, -1] = 1e-9
    sigma = torch.from_numpy(spectra)
    assert variants.jepa_score(spectra, null_dim=1) == pytest.approx(score.jepa_score(sigma, null_dim=1).numpy())
    assert variants.jepa_score_listing1(spectra) == pytest.approx(score.jepa_score(sigma).numpy())
    assert variants.jepa_score_listing1(spectra, eps=0.1) == pytest.approx(score.jepa_score(sigma, eps=0.1).numpy())
    tail = variants.jepa_score_tail(spectra, drop_top=50, null_dim=1)
    assert tail == pytest.approx(np.log(spectra.astype(float))[:, 3:6].sum(1))
    parts = [variants.jepa_score_band(spectra, low, low + 20, null_dim=1) for low in range(0, 100, 20)]
    assert np.sum(parts, axis=0) == pytest.approx(variants.jepa_score(spectra, null_dim=1))
    assert np.isnan(variants.jepa_score(np.array([[np.nan, 1.0]]))[0])
    for wrong in (-1, 100):
        with pytest.raises(ValueError, match="drop"):
            variants.jepa_score_tail(spectra, drop_top=wrong)


def planted(name, n, *, seed, shift):
    """Spectra of 20 σ whose largest ten are noise and whose smallest ten may be smaller."""
    generator = np.random.default_rng(seed)
    logs = np.concatenate([generator.normal(9, 2, (n, 10)), generator.normal(shift, 0.4, (n, 10))], axis=1)
    spectra = -np.sort(-np.exp(logs), axis=1)
    return make_rows(name, scores=np.log(spectra).sum(1), spectra=spectra)


def test_a_sweep_finds_where_the_signal_was_planted():
    found = sweeps(planted("in", 300, seed=0, shift=0.15), planted("out", 300, seed=1, shift=0.0))
    drops = found.drops.set_index("drop_top")
    assert drops.loc[50.0, "auroc"] > 0.7 > drops.loc[0.0, "auroc"] and drops.loc[0.0, "low"] < 0.6
    assert (found.bands["auroc"][:5].mean() < 0.56) and (found.bands["auroc"][5:].mean() > 0.55)
    assert found.chosen.auroc > 0.7 and found.chosen.difference_low > 0 and min(found.chosen.chosen) >= 40
    assert found.chosen.tuned >= found.chosen.auroc - 0.02


def test_a_q_that_is_chosen_for_nothing_is_worth_nothing():
    gains, flattery = [], []
    for seed in range(40):
        inside, other = (planted(name, 50, seed=2 * seed + side, shift=0) for side, name in enumerate(("in", "out")))
        found = choose_drop(inside, other)
        gains.append(found.difference)
        flattery.append(found.tuned - found.plain)
    assert abs(np.mean(gains)) < 0.035  # three standard errors
    assert np.mean(flattery) > 0.03


def test_scores_are_compared_over_eps():
    inside, other = rows(n=60, null_dim=1), rows("out", n=60, seed=1, null_dim=1)
    frame = over_eps(inside, other)
    below = frame[frame["eps"] <= 1e-6]  # no σ is that small, so that eps changes nothing
    assert (below["spearman"] > 1 - 1e-9).all() and below.groupby("convention")["auroc"].nunique().eq(1).all()
    assert frame[frame["eps"] >= 10]["spearman"].isna().any() or frame["spearman"].min() < 0.9
    with pytest.raises(OutlierError, match="no singular values"):
        sweeps(rows(spectra=None), other)


# runs and the command


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[store.Run]:
    """Two datasets under one tiny encoder, and one of them under another."""
    home = store.runs_home(tmp_path_factory.mktemp("outliers") / "runs")
    others = [f"{name}/{number}.png" for number in range(18) for name in ("tree", "sea")]
    made = [
        score_work(tiny_work(home, dataset, encoder), Hooks(threading.Event()))
        for dataset, encoder in (
            (TinyDataset(40, bad=(3,)), None),
            (TinyDataset(36, keys=others, class_names=("tree", "sea")), None),
            (TinyDataset(40), tiny_encoder(null_dim=1)),
        )
    ]
    return [store.open_run(run.path) for run in made]


def test_rows_of_a_run_are_its_rows(runs):
    found = outliers.rows_of(runs[0])
    frame = store.scores(runs[0])
    assert found.keys.tolist() == frame["key"].tolist() and found.scores.tolist() == frame["score"].tolist()
    assert len(found) == 39 == found.total and set(found.class_names) == {"cat", "dog"}
    listing1 = store.scores(runs[0], rule=ScoreRule("listing1"))["score"].to_numpy()
    assert variants.jepa_score_listing1(found.spectra) == pytest.approx(listing1)
    sphere = store.scores(runs[0], rule=ScoreRule("sphere"))["score"].to_numpy()
    assert variants.sphere_score(found.spectra, found.sphere_terms, found.embeddings) == pytest.approx(sphere, abs=1e-4)
    few = outliers.rows_of(runs[0], most=12)
    assert len(few) == 12 and few.total == 39
    lookup = dict(zip(found.keys, found.embeddings, strict=True))
    assert all((lookup[key] == z).all() for key, z in zip(few.keys, few.embeddings, strict=True))


def test_runs_of_other_encoders_are_refused(runs):
    assert outliers.same_encoder(runs[0], runs[1]) and not outliers.same_encoder(runs[0], runs[2])
    with pytest.raises(OutlierError, match="different encoders"):
        outliers.rows_of_runs(runs[0], [runs[2]])
    with pytest.raises(OutlierError, match="named twice"):
        outliers.rows_of_runs(runs[0], [runs[1], runs[1]])


def command(*arguments: object):
    return CliRunner().invoke(app, ["outliers", *map(str, arguments)])


def test_command_writes_json(runs):
    answer = command(runs[0].path, runs[1].path, "--json")
    assert answer.exit_code == 0, answer.output
    listed = json.loads(answer.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    by_method = {row["method"]: row for row in listed}
    assert {"jepa_score", "jepa_score_listing1", "jepa_score_tail", "knn", "mahalanobis", "lof"} <= set(by_method)
    assert len(by_method) == len(listed)
    for row in listed:
        assert row["out"] == runs[1].name and row["direction"] in ("holds", "inverted", "undecided")
        assert row["auroc_low"] <= row["auroc"] <= row["auroc_high"] and 0 <= row["fpr95"] <= 1
        assert (row["n_in"], row["n_out"]) == (39, 36)
    frames = [store.scores(run)["score"].to_numpy() for run in runs[:2]]
    assert by_method["jepa_score"]["auroc"] == pytest.approx(separation(*frames).auroc, abs=1e-12)
    assert by_method["jepa_score"]["p"] is None and by_method["jepa_score_tail"]["drop_top"] == 10
    answer = command(runs[0].path, runs[1].path, "--json", "--drop-top", 40)
    other = {row["method"]: row for row in json.loads(answer.stdout)}
    assert other["jepa_score_tail"]["drop_top"] == 40
    logs = [np.log(np.asarray(outliers.rows_of(run).spectra, float))[:, 2:].sum(1) for run in runs[:2]]
    assert other["jepa_score_tail"]["auroc"] == pytest.approx(separation(*logs).auroc, abs=1e-12)


def test_command_prints_a_table_and_refuses_in_a_sentence(runs):
    answer = command(runs[0].path, runs[1].path)
    assert answer.exit_code == 0 and "jepa_score_tail" in answer.output and "folds" in answer.output
    refused = command(runs[0].path, runs[2].path)
    assert refused.exit_code == 1 and isinstance(refused.exception, OutlierError)
    assert command(runs[0].path, Path("nowhere")).exit_code == 1
    assert command(runs[0].path, runs[1].path, "--drop-top", 100).exit_code == 2
