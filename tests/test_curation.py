"""Duplicates, choices by score and the probes that judge them: known answers, and what must not be found."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from jepascore_core import curating, curation, store
from jepascore_core.__main__ import app
from jepascore_core.curation import duplicates, probes, trials
from jepascore_core.curation.duplicates import find_duplicates
from jepascore_core.curation.rules import CONTROLS, RULES, choose, kept_count
from jepascore_core.curation.trials import Images, holm, interval, run_split, run_trials, split
from jepascore_core.errors import RunError
from tests.runs_made import made_run

RUNNER = CliRunner()


def names(n: int) -> list[str]:
    return [f"{i:05d}.png" for i in range(n)]


def cloud(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def images(n: int, seed: int = 0, *, d: int = 4, kinds: int = 3, apart: float = 1.0, **changes) -> Images:
    """Gaussian classes, a score that is noise, no duplicates."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, kinds, n)
    x = rng.normal(size=(kinds, d))[codes] * apart + rng.normal(size=(n, d))
    made = {"classes": codes, "scores": rng.normal(size=n), "embeddings": x.astype(np.float32), "kept": np.arange(n)}
    made |= changes
    return Images(
        keys=[f"{seed}/{i}" for i in range(n)], dataset="test", class_names=[str(c) for c in range(kinds)], **made
    )


# duplicates


def test_planted_duplicates_are_found_and_nothing_else():
    x = cloud(400, 8)
    equal, near = x[:10] * (1 + 1e-6), x[10:30] + 1e-3 * cloud(20, 8, 1)
    found = find_duplicates(np.concatenate([x, equal, near]).astype(np.float32), names(430))
    assert found.derived and found.dropped == 30 and found.dropped_exact == 10
    assert found.kept[400:].tolist() == list(range(30)) and found.kept[:400].tolist() == list(range(400))
    assert sorted(group.tolist() for group in found.groups()) == [[i, 400 + i] for i in range(30)]
    assert len(found.representatives) == 400


def test_the_key_decides_which_one_is_kept_whatever_the_order():
    x = np.repeat(cloud(30, 4), 3, axis=0)
    keys = [f"{'cab'[i % 3]}{i // 3:02d}" for i in range(90)]
    order = np.random.default_rng(3).permutation(90)
    found = find_duplicates(x[order], [keys[i] for i in order])
    assert {keys[order[i]] for i in found.representatives} == {f"a{i:02d}" for i in range(30)}
    assert all(keys[order[group[0]]][0] == "a" and len(group) == 3 for group in found.groups())


def test_groups_are_connected_through_those_between():
    angles = np.array([0.0, 0.08, 0.16, 2.0])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert find_duplicates(x, names(4), threshold=float(np.cos(0.1))).kept.tolist() == [0, 0, 0, 3]
    assert find_duplicates(x, names(4), threshold=float(np.cos(0.05))).dropped == 0


@pytest.mark.parametrize("d", [2, 16, 200])
def test_the_default_threshold_finds_few_in_a_cloud_without_duplicates(d: int):
    x = cloud(1500, d) if d < 100 else cloud(1500, 12) @ cloud(12, d, 1)  # 12 dimensions within 200
    assert find_duplicates(x.astype(np.float32), names(1500)).dropped <= 8  # one in a thousand, uneven density aside


def test_the_threshold_follows_the_scale_and_not_the_copies():
    narrow = (cloud(500, 8) * 1e-3 + 1).astype(np.float32)  # all cosines above 0.9999
    assert find_duplicates(narrow, names(500)).dropped <= 2
    copied = np.concatenate([narrow, narrow[:200] + 1e-7]).astype(np.float32)
    assert 200 <= find_duplicates(copied, names(700)).dropped <= 202


def test_blocks_give_what_one_matrix_gives(monkeypatch: pytest.MonkeyPatch):
    x = np.concatenate([cloud(120, 3), cloud(120, 3) + 1e-3]).astype(np.float32)
    whole = find_duplicates(x, names(240), threshold=0.999).kept
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    _, labels = connected_components(u @ u.T >= 0.999)
    assert pd.Series(whole).groupby(labels).nunique().eq(1).all() and len(set(labels)) == len(set(whole))
    monkeypatch.setattr(duplicates, "_BLOCK_CELLS", 700)
    assert find_duplicates(x, names(240), threshold=0.999).kept.tolist() == whole.tolist()


def test_damaged_collapsed_and_few_embeddings():
    x = cloud(30, 4)
    x[3], x[4], x[5] = np.nan, 0, 0
    found = find_duplicates(x, names(30))
    assert found.kept[3] == 3 and found.kept[5] == 4 and found.dropped == 1
    same = find_duplicates(np.ones((50, 4), np.float32), names(50))
    assert same.dropped == same.dropped_exact == 49 and same.threshold is None
    assert find_duplicates(np.zeros((0, 0), np.float32), []).dropped == 0
    assert find_duplicates(cloud(3, 4), names(3)).threshold is None
    with pytest.raises(ValueError, match="3 embeddings and 2 keys"):
        find_duplicates(cloud(3, 4), names(2))
    with pytest.raises(ValueError, match="cosine"):
        find_duplicates(cloud(3, 4), names(3), threshold=2)


# rules and splits


@settings(max_examples=60, deadline=None)
@given(some.integers(1, 60), some.floats(0.01, 1.0), some.sampled_from([*RULES, *CONTROLS]), some.integers(0, 9))
def test_every_rule_keeps_as_many_distinct_images_as_asked(n: int, fraction: float, rule: str, seed: int):
    rng = np.random.default_rng(seed)
    chosen = choose(rule, rng.integers(0, 5, n).astype(float), rng.integers(0, 4, n), fraction, seed)
    assert len(chosen) == kept_count(n, fraction) == len(set(chosen.tolist()))
    assert chosen.tolist() == sorted(chosen.tolist()) and chosen[0] >= 0 and chosen[-1] < n


def test_rules_keep_what_they_say():
    scores, codes = np.arange(20.0), np.arange(20) % 2
    assert choose("top", scores, codes, 0.2).tolist() == [16, 17, 18, 19]
    assert choose("bottom", scores, codes, 0.2).tolist() == [0, 1, 2, 3]
    assert choose("middle", scores, codes, 0.2).tolist() == [8, 9, 10, 11]
    by_class = np.where(codes == 0, scores, scores + 100)
    assert choose("top", by_class, codes, 0.2).tolist() == [13, 15, 17, 19]
    assert choose("stratified", by_class, codes, 0.2).tolist() == [16, 17, 18, 19]
    assert choose("stratified_bottom", by_class, codes, 0.2).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="no rule 'best'"):
        choose("best", scores, codes, 0.2)
    with pytest.raises(ValueError, match="fraction"):
        choose("top", scores, codes, 0.0)


def test_equal_scores_are_not_chosen_in_the_order_of_the_dataset():
    codes = np.repeat(np.arange(10), 20)
    assert len(set(codes[choose("top", np.zeros(200), codes, 0.2)])) > 5


def test_random_per_class_takes_the_same_share_of_each():
    codes = np.repeat([0, 1, 2], [60, 30, 10])
    assert np.bincount(codes[choose("random_per_class", np.zeros(100), codes, 0.2)]).tolist() == [12, 6, 2]


def test_small_classes_are_not_passed_over():
    codes = np.repeat(np.arange(50), np.r_[np.full(25, 1), np.full(25, 2)])
    taken = sum(np.bincount(codes[choose("stratified", np.zeros(75), codes, 0.2, s)], minlength=50) for s in range(300))
    assert taken.sum() == 300 * 15
    assert taken[:25].mean() / 300 == pytest.approx(0.2, abs=0.02) and taken[25:].mean() / 300 == pytest.approx(
        0.4, abs=0.02
    )


def test_the_hash_depends_on_dataset_key_and_seed_alone():
    keys = names(2000)
    held = curation.hashed(keys, "a", 1) < 0.3
    assert (curation.hashed(keys[::-1], "a", 1)[::-1] < 0.3).tolist() == held.tolist()
    assert abs(held.mean() - 0.3) < 0.04
    for other in (curation.hashed(keys, "b", 1), curation.hashed(keys, "a", 2)):
        assert abs((held & (other < 0.3)).mean() - 0.09) < 0.03  # as if independent
    assert len(curation.hashed(["\udcff"], "a", 0)) == 1


def test_no_group_is_on_both_sides():
    kept = np.arange(200)
    kept[100:] = kept[:100]
    made = images(200, kept=kept)
    for seed in range(5):
        train, judged = split(made, np.arange(200), seed, 0.3)
        assert not set(kept[train]) & set(kept[judged]) and len(train) + len(judged) == 200


# probes


def test_probes_agree_with_scikit_learn():
    made = images(300, 1, d=6, apart=0.8)
    x, y, asked = made.embeddings[:200] * np.float32([1, 100, 1e-3, 1, 1, 1]), made.classes[:200], made.embeddings[200:]
    scaler = StandardScaler().fit(x)
    expected = LogisticRegression(max_iter=2000).fit(scaler.transform(x), y).predict(scaler.transform(asked))
    assert (probes.linear_probe(x, y, asked) == expected).mean() >= 0.98
    knn = KNeighborsClassifier(
        5, metric="cosine", weights=lambda d: np.exp(-d / probes.TEMPERATURE) + 1e-300, algorithm="brute"
    ).fit(x, y)
    assert (probes.knn_probe(x, y, asked) == knn.predict(asked)).all()


def test_probes_on_degenerate_embeddings():
    x, y = np.ones((6, 3), np.float32), np.array([0, 0, 1, 1, 1, 1])
    for probe in probes.PROBES.values():
        assert probe(x, y, x).tolist() == [1] * 6
        assert probe(x[:1], y[:1], x).tolist() == [0] * 6


def test_balanced_accuracy_is_the_mean_of_recalls():
    y, named = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 0, 0, 2])
    assert probes.accuracy(y, named) == pytest.approx(5 / 6) and probes.balanced_accuracy(y, named) == 0.75


# intervals


def test_interval_is_students_and_wider_by_what_splits_share():
    values = np.random.default_rng(0).normal(1, 1, 12)
    mean, low, high, p = interval(values, 0.0)
    expected = stats.ttest_1samp(values, 0)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval()))
    assert (mean, p) == pytest.approx((values.mean(), expected.pvalue))
    _, low2, high2, _ = interval(values, 0.3)
    assert (high2 - low2) / (high - low) == pytest.approx(np.sqrt((1 / 12 + 0.3 / 0.7) * 12))
    assert interval(np.zeros(5), 0.3)[3] == 1.0 and interval(np.full(5, 0.1), 0.3)[3] == pytest.approx(1 / 16)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


# trials


def test_a_score_that_is_the_margin_is_found_out():
    """Rows far on the wrong side of the boundary have a low score: keeping the lowest must ruin a probe."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    x = rng.normal(size=(400, 2)).astype(np.float32)
    x[:, 0] += 1.5 * (2 * y - 1)
    made = images(400, kinds=2, embeddings=x, scores=(x[:, 0] * (2 * y - 1)).astype(float))
    made = Images(made.keys, "test", y, ("a", "b"), made.scores, x, made.kept)
    found = run_trials(made, fractions=(0.1, 0.5), seeds=10)
    ruined = found.of("bottom", "linear")[0]
    assert ruined.found == "worse" and ruined.difference < -0.3 and ruined.p_holm < 0.01
    assert all(one.difference_low < 0.05 for one in found.of("top", "linear"))
    assert "Worse than random: the lowest 10 %" in curation.verdict(found)


def test_a_score_that_tells_wrong_labels_beats_random():
    made = images(1500, 4, d=4, apart=2.5)
    rng = np.random.default_rng(0)
    wrong = rng.random(1500) < 0.4
    noisy = np.where(wrong, (made.classes + 1) % 3, made.classes)
    scores = np.where(wrong, 0.0, 1.0) + 0.01 * rng.normal(size=1500)
    found = run_trials(
        Images(made.keys, "test", noisy, made.class_names, scores, made.embeddings, made.kept),
        fractions=(0.5,), rules=("top", "stratified"), seeds=20,
    )  # fmt: skip
    best = found.of("top", "knn")[0]
    assert best.found == "better" and best.control == "random" and best.difference > 0.02
    assert found.of("stratified", "knn")[0].control == "random_per_class"
    assert curation.verdict(found).startswith("Better than random choice of the same size: ")


def test_a_score_that_is_noise_beats_random_no_more_than_at_the_nominal_rate(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trials, "PROBES", {"knn": probes.knn_probe})
    found = [run_trials(images(120, seed), fractions=(0.1, 0.25, 0.5), seeds=5) for seed in range(60)]
    wrong = sum(any(one.found != "undecided" for one in each.tested()) for each in found)
    single = np.mean([one.p < 0.05 for each in found for one in each.tested()])
    covered = np.mean([one.difference_low <= 0 <= one.difference_high for each in found for one in each.tested()])
    assert covered >= 0.95
    assert wrong <= 6  # 3 are expected at most; more than 6 happen once in 30 such tests
    assert single <= 0.05
    assert sum(curation.verdict(each).startswith("Nothing beats random") for each in found) >= 54


def test_duplicates_of_held_out_images_are_never_trained_on(monkeypatch: pytest.MonkeyPatch):
    """With noise embeddings an honest probe is at chance; copies across the split would let k-NN name every class."""
    x = np.repeat(cloud(150, 8), 2, axis=0)
    y = np.repeat(np.random.default_rng(1).integers(0, 2, 150), 2)
    copies = find_duplicates(x, names(300)).kept
    made = Images(names(300), "test", y, ("a", "b"), np.arange(300.0), x, copies)
    for keep in (False, True):
        (one,) = run_trials(made, seeds=5, keep_duplicates=keep).of("all", "knn")
        assert one.accuracy < 0.65
    leaky = Images(names(300), "test", y, ("a", "b"), np.arange(300.0), x, np.arange(300))
    (one,) = run_trials(leaky, seeds=5).of("all", "knn")
    assert one.accuracy > 0.75


def test_lost_classes_are_told():
    codes = np.arange(200) % 4
    made = Images(names(200), "test", codes, tuple("abcd"), codes * 10.0, cloud(200, 3), np.arange(200))
    found = run_trials(made, rules=("top", "stratified"), fractions=(0.1, 0.5), seeds=3)
    assert found.of("top", "knn")[0].classes_lost == 3 and found.of("stratified", "knn")[0].classes_lost == 0
    assert "the highest 10 % (3), 50 % (2)" in curation.losses(found)


def test_limits_of_threads_do_not_overlap(monkeypatch: pytest.MonkeyPatch):
    held: list[int] = []

    @contextmanager
    def limits(most: int, user_api: str) -> Iterator[None]:
        held.append(most)
        time.sleep(0.05)
        yield
        assert held == [1], "the one that ends last would leave the other's limit behind"
        held.clear()

    monkeypatch.setattr(trials, "threadpool_limits", limits)
    monkeypatch.setattr(trials, "_judge", lambda *_: iter([[0.5, 0.5, 1.0, 0.0]] * 2))
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(partial(run_split, images(120)), range(4)))) == 4


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({}, {"rules": ("best",)}, "no rule 'best'"),
        ({}, {"fractions": (1.0,)}, "both excluded, not 1"),
        ({}, {"fractions": ()}, "At least one rule"),
        ({}, {"seeds": 2}, "At least 3 seeds"),
        ({"classes": np.zeros(100, int)}, {}, "one class only"),
        ({"kept": np.arange(100) % 12}, {}, "Too few images to hold some out: 12"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(changes: dict, asked: dict, message: str):
    with pytest.raises(ValueError, match=message):
        run_trials(images(100, **changes), **asked)


# runs and the command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> store.Run:
    """A run of 150 images in three classes, five of them copied."""
    rng = np.random.default_rng(0)
    codes = np.arange(150) % 3
    x = (rng.normal(size=(3, 6))[codes] + rng.normal(size=(150, 6))).astype(np.float32)
    x[140:145] = x[:5]
    return made_run(tmp_path_factory.mktemp("curation") / "runs", x, codes, rng.normal(size=150), seed=1)


def test_a_run_is_searched_measured_and_chosen_from(run: store.Run):
    searched = curating.search(run)
    among = curating.candidates(run, "raw", searched)
    assert len(among) == 150 and searched.duplicates.dropped_exact == 5
    found = curating.measure(among, searched, seeds=3, fractions=(0.5,))
    assert (found.images, found.classes, found.seeds) == (145, 3, 3)
    top = curating.selected(among, "top", 0.2)
    frame = store.scores(run).set_index("key")["score"]
    assert len(top) == 29 and set(top) <= set(among.distinct().tolist()) == set(among.kept.tolist())
    left = frame.drop(among.keys_at(np.flatnonzero(among.kept != np.arange(150))))
    assert set(among.keys_at(top)) == set(left.nlargest(29).index)
    assert len(curating.selected(among, "top", 0.2, keep_duplicates=True)) == 30
    assert among.ascending().tolist() == np.argsort(among.scores, kind="stable").tolist()
    fewer = curating.measure(among, searched, seeds=3, fractions=(0.5,), most=80)
    assert 70 <= fewer.images <= 80


def test_of_many_classes_some_take_part_with_enough_images(tmp_path: Path):
    codes = np.arange(150) % 30
    run = made_run(tmp_path / "runs", cloud(150, 6), codes, cloud(150, 1)[:, 0], seed=2)
    searched = curating.search(run)
    among = curating.candidates(run, "raw", searched)
    assert len(np.unique(curating.measured_images(among, searched, 150).classes)) == 30
    few = curating.measured_images(among, searched, 100)
    taken = np.unique(few.classes)
    assert len(taken) == 100 // curating.PER_CLASS == 5
    assert len(few.keys) == 25 == np.isin(among.classes, taken).sum()  # all of theirs
    assert set(curating.measured_images(among, searched, 100).keys) == set(few.keys)


def test_brightness_can_be_the_score(run: store.Run):
    searched = curating.search(run)
    among = curating.candidates(run, "brightness", searched)
    assert len(among) == 150 and (among.scores >= 0).all() and (among.scores <= 1).all()
    with pytest.raises(RunError, match="no score 'beauty'"):
        curating.candidates(run, "beauty", searched)
    with pytest.raises(RunError, match="between 0 and 1, not 2"):
        curating.search(run, near=2)


def cli(*arguments: object) -> tuple[int, str]:
    done = RUNNER.invoke(app, [str(word) for word in arguments])
    if isinstance(done.exception, RunError):
        return 1, str(done.exception)
    assert done.exception is None, done.exception
    return 0, done.stdout


def refuse(constant: str) -> None:
    raise AssertionError(constant)


def test_curate_prints_strict_json(run: store.Run):
    code, out = cli("curate", run.path, "--seeds", 3, "--keep", "0.25,0.5", "--rule", "top,stratified", "--json")
    facts = json.loads(out, parse_constant=refuse)
    assert code == 0 and facts["score"] == "raw" and facts["duplicates"]["dropped"] == 5
    rules = {(one["rule"], one["fraction"], one["probe"]) for one in facts["outcomes"]}
    assert {("top", 0.25, "knn"), ("random", 0.5, "linear"), ("all", 1.0, "knn")} <= rules
    assert facts["verdict"] and facts["measured"]["seeds"] == 3
    (one,) = [
        each for each in facts["outcomes"] if (each["rule"], each["fraction"], each["probe"]) == ("top", 0.5, "knn")
    ]
    assert one["difference_low"] <= one["difference"] <= one["difference_high"] and one["found"] == "undecided"
    assert next(each for each in facts["outcomes"] if each["rule"] == "random")["p"] is None


def test_curate_prints_a_table_and_the_verdict(run: store.Run):
    code, out = cli("curate", run.path, "--seeds", 3, "--keep", "0.5", "--by", "brightness")
    assert code == 0 and "random choice" in out and "linear probe" in out and "5 of 150 images repeat" in out


def test_curate_writes_what_is_kept(run: store.Run, tmp_path: Path):
    code, out = cli("curate", run.path, "--rule", "top", "--keep", "0.2", "--to", tmp_path / "keep.txt")
    kept = (tmp_path / "keep.txt").read_text().splitlines()
    assert code == 0 and out.splitlines()[-1] == str(tmp_path / "keep.txt") and len(kept) == 29
    best = store.scores(run).nlargest(10, "score")["key"]
    assert len(set(kept) & set(best)) >= 5
    for wrong in (("--keep", "0.2"), ("--rule", "top"), ("--rule", "top", "--keep", "much")):
        code, message = cli("curate", run.path, *wrong, "--to", tmp_path / "no.txt")
        assert code == 1 and message.count("\n") == 0 and not (tmp_path / "no.txt").exists()


def test_runs_that_cannot_be_measured_say_why(tmp_path: Path):
    x, scores = cloud(30, 4), np.arange(30.0)
    one_class = made_run(tmp_path / "a", x, np.zeros(30, int), scores, seed=2)
    without = made_run(tmp_path / "b", None, np.arange(30) % 2, scores, seed=3)
    three = made_run(tmp_path / "c", x[:3], np.arange(3), scores[:3], seed=4)
    unlabelled = made_run(tmp_path / "d", x, None, scores, seed=5)
    for made, message in (
        (one_class, "one class only"),
        (without, "holds no embeddings"),
        (three, "Too few images"),
        (unlabelled, "no labels"),
    ):
        code, told = cli("curate", made.path)
        assert code == 1 and message in told
