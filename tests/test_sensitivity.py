"""Dose-response, leaving a class out, label noise and depth: known answers, coverage, and no fit on judged rows."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp
from typer.testing import CliRunner

from jepascore_core.__main__ import app
from jepascore_core.errors import JepaScoreError, RunError
from jepascore_core.jobs import SensitivityRequest
from jepascore_core.naming import is_variant
from jepascore_core.outliers import OutlierError, Rows, make_rows, method_named
from jepascore_core.sensitivity import (
    dose_response,
    experiments,
    label_noise,
    leave_one_out,
    over_depth,
    paired_apart,
)
from jepascore_core.sensitivity.dose import pairs
from jepascore_core.sensitivity.estimates import apart, share_interval
from jepascore_core.sensitivity.labels import shuffled
from jepascore_core.separation import separation
from jepascore_core.store import list_runs, open_run

SCORE = [method_named("jepa_score")]


def rows_of_scores(scores: Any, name: str = "clean", **options: Any) -> Rows:
    return make_rows(name, scores=np.asarray(scores, float), **options)


def labelled(n: int, classes: int, apart_: float, *, dim: int = 4, seed: int = 0, name: str = "run") -> Rows:
    """Gaussian classes around corners: embeddings tell them apart, scores do by ``apart_`` a class."""
    dice = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    embeddings = 4 * np.eye(classes, dim)[labels] + dice.standard_normal((n, dim))
    return make_rows(
        name, scores=dice.standard_normal(n) + apart_ * labels, class_names=[f"c{label}" for label in labels],
        embeddings=embeddings, keys=[f"k{i}" for i in range(n)],
    )  # fmt: skip


# Estimates


def test_an_auroc_of_pairs_is_that_of_its_values_with_an_interval_for_pairs() -> None:
    dice = np.random.default_rng(0)
    before = dice.standard_normal(200)
    after = before - 0.1 + 0.02 * dice.standard_normal(200)
    found, unpaired = paired_apart(before, after), separation(before, after)
    assert found.auroc.value == pytest.approx(unpaired.auroc)
    assert found.auroc.high - found.auroc.low < 0.5 * (unpaired.high - unpaired.low)  # most of the spread is shared
    assert found.direction == "holds" and unpaired.direction == "not separated"
    assert paired_apart(after, before).direction == "inverted"


def test_without_pairs_the_interval_is_delongs() -> None:
    dice = np.random.default_rng(1)
    inside, other = dice.standard_normal(60), dice.standard_normal(40) - 0.5
    found, delong = apart(inside, other), separation(inside, other)
    assert (found.auroc.value, found.auroc.low, found.auroc.high) == pytest.approx((
        delong.auroc,
        delong.low,
        delong.high,
    ))


def test_the_interval_of_pairs_covers_the_truth() -> None:
    """Correlated pairs of normals: AUROC = Φ(shift / √2) whatever the correlation."""
    dice = np.random.default_rng(2)
    truth, hits = norm.cdf(0.4 / np.sqrt(2)), 0
    for _ in range(400):
        before = dice.standard_normal(60)
        after = 0.8 * before + 0.6 * dice.standard_normal(60) - 0.4
        found = paired_apart(before, after).auroc
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_change_that_every_image_shows_keeps_an_interval() -> None:
    found = paired_apart(np.arange(10.0) + 100, np.arange(10.0)).auroc
    assert found.value == 1 and found.low < 0.9 and found.high == 1
    nothing = share_interval(0, 20)
    assert nothing.value == nothing.low == 0 and 0.1 < nothing.high < 0.25


# Dose-response


def test_a_dose_response_has_its_known_answers() -> None:
    dice = np.random.default_rng(0)
    before = dice.standard_normal(200)
    fall = np.where(np.arange(200) < 150, 1.0, -0.5)
    clean = rows_of_scores(before)
    other = rows_of_scores((before - fall)[::-1], "noise", keys=[str(i) for i in range(200)][::-1])
    (dose,), left_out = dose_response(clean, {("noise", 2): other}, wanted=SCORE)
    assert not left_out and (dose.kind, dose.severity, dose.n) == ("noise", 2, 200)
    interval = ttest_1samp(-fall, 0).confidence_interval()
    assert (dose.change.value, dose.change.low, dose.change.high) == pytest.approx((
        -0.625,
        interval.low,
        interval.high,
    ))
    assert dose.fell.value == 0.75 and dose.fell.low < 0.75 < dose.fell.high
    assert dose.change_sd.value == pytest.approx(-0.625 / before.std(ddof=1))
    assert dose.auroc.value == pytest.approx(separation(before, before - fall).auroc) and dose.direction == "holds"


def test_images_that_one_side_lacks_or_that_have_no_score_are_left_out() -> None:
    clean = rows_of_scores([1, 2, np.nan, 4, 5], keys=list("abcde"))
    other = rows_of_scores([0, 1, 2, np.nan, 9], keys=list("bacdz"))
    places, matched = pairs(clean, other)
    assert [str(clean.keys[place]) for place in places] == list(matched.keys) == list("abcd")
    (dose,), _ = dose_response(clean, {("blur", 1): other}, wanted=SCORE)
    assert dose.n == 2 and dose.change.value == -1  # a: 1 to 1, b: 2 to 0


def test_the_same_images_are_undecided_at_a_half() -> None:
    clean = rows_of_scores(np.random.default_rng(0).standard_normal(50))
    (dose,), _ = dose_response(clean, {("jpeg", 1): clean.with_name("jpeg")}, wanted=SCORE)
    assert dose.auroc.value == 0.5 and dose.direction == "undecided"
    assert dose.change.value == 0 and dose.fell.value == 0.5


def test_an_image_and_its_corrupted_twin_are_judged_by_models_that_saw_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    from jepascore_core.outliers import fitting

    seen = []

    class Watched(fitting.Fitted):
        def __init__(self, method: Any, rows: Rows, *, seed: int = 0) -> None:
            super().__init__(method, rows, seed=seed)
            self.keys = set(rows.keys)

        def judge(self, rows: Rows) -> Any:
            seen.append((self.keys, set(rows.keys)))
            return super().judge(rows)

    monkeypatch.setattr(fitting, "Fitted", Watched)
    clean = labelled(60, 3, 0.0)
    other = replace(labelled(60, 3, 0.0, seed=1, name="noise"), keys=clean.keys)
    dose_response(clean, {("noise", 1): other}, wanted=[method_named("knn")])
    assert len(seen) >= 4 and all(not fitted & judged for fitted, judged in seen)


def test_no_corruption_and_no_common_image_are_one_sentence() -> None:
    clean = rows_of_scores([1, 2, 3])
    with pytest.raises(OutlierError, match="no corrupted run"):
        dose_response(clean, {})
    with pytest.raises(OutlierError, match="have 0 scored images in common"):
        dose_response(clean, {("blur", 1): rows_of_scores([1, 2], keys=["x", "y"])})


def test_methods_without_what_they_need_say_so() -> None:
    clean = rows_of_scores([1, 2, 3])
    doses, left_out = dose_response(clean, {("blur", 1): clean.with_name("b")})
    assert [dose.method.name for dose in doses] == ["jepa_score"]
    assert "holds no embeddings" in left_out["k-NN distance"]


# Leave one class out


def test_a_class_of_low_scores_is_told_and_the_mean_is_that_of_the_classes() -> None:
    rows = labelled(300, 3, 1.0)
    found = leave_one_out(rows, wanted=SCORE)
    by_class = {one.class_name: one for one in found.findings}
    for label, one in enumerate(("c0", "c1", "c2")):
        mask = np.arange(300) % 3 == label
        assert by_class[one].auroc.value == pytest.approx(separation(rows.scores[~mask], rows.scores[mask]).auroc)
        assert (by_class[one].n_in, by_class[one].n_out) == (200, 100)
    assert by_class["c0"].direction == "holds" and by_class["c2"].direction == "inverted"
    (macro,) = found.macro
    assert macro.classes == 3 and macro.auroc.value == pytest.approx(np.mean([o.auroc.value for o in found.findings]))


def test_the_mean_over_classes_has_an_interval_that_covers() -> None:
    """Scores that do not depend on the class: every AUROC is a half in truth, and so is their mean."""
    hits = 0
    for seed in range(200):
        macro = leave_one_out(labelled(60, 3, 0.0, seed=seed), wanted=SCORE).macro[0].auroc
        hits += macro.low <= 0.5 <= macro.high
    assert 0.9 <= hits / 200 <= 1.0


def test_models_see_no_row_of_the_class_that_is_left_out() -> None:
    found = leave_one_out(labelled(150, 3, 0.0), wanted=[method_named("knn"), method_named("class_cosine")])
    assert all(one.auroc.value > 0.95 and one.direction == "holds" for one in found.findings)  # corners lie far apart
    assert "fitted to" in found.findings[0].rows


def test_few_classes_and_small_ones() -> None:
    with pytest.raises(OutlierError, match=r"at least two classes.*has 1 class"):
        leave_one_out(labelled(20, 1, 0.0))
    with pytest.raises(OutlierError, match="has no scored image of class 'x'"):
        leave_one_out(labelled(20, 2, 0.0), classes=["x"])
    rows = labelled(22, 2, 0.0)
    rows.class_names[:2] = "rare"
    found = leave_one_out(rows, wanted=SCORE)
    assert {one.class_name for one in found.findings} == {"c0", "c1"}
    assert found.notes == ("1 class is not left out, for want of 5 images.",)
    many = leave_one_out(labelled(150, 25, 0.0, dim=25), wanted=SCORE)
    assert len(many.findings) == 20 and "Of 25 classes the 20 largest" in many.notes[0]


# Label noise


def test_wrong_labels_are_found_by_what_sees_labels_and_not_by_the_score() -> None:
    found, left_out = label_noise(labelled(400, 4, 1.5), shares=(0.1, 0.3))
    assert not left_out
    by = {(one.share, one.method.name): one for one in found}
    for share in (0.1, 0.3):
        assert by[share, "class_cosine"].auroc.value > 0.95 and by[share, "knn_agreement"].auroc.value > 0.95
        assert by[share, "jepa_score_class"].direction == "holds"
        control = by[share, "jepa_score"]
        assert control.method.control and control.auroc.low < 0.5 < control.auroc.high
        assert abs(control.auroc.value - 0.5) < 0.05
        assert control.wrong == pytest.approx(400 * share * 3 / 4, rel=0.15)  # a quarter gets its own label back


def test_without_structure_nothing_finds_wrong_labels() -> None:
    dice = np.random.default_rng(0)
    rows = make_rows(
        "noise", scores=dice.standard_normal(300), embeddings=dice.standard_normal((300, 8)),
        class_names=[f"c{i % 3}" for i in range(300)],
    )  # fmt: skip
    found, _ = label_noise(rows, shares=(0.2,))
    assert all(one.direction == "undecided" for one in found)


def test_the_interval_of_the_control_covers_a_half() -> None:
    hits = 0
    for seed in range(100):
        found, _ = label_noise(replace(labelled(80, 2, 0.5, seed=seed), embeddings=None), shares=(0.2,), seed=seed)
        control = next(one for one in found if one.method.control)
        hits += control.auroc.low <= 0.5 <= control.auroc.high
    assert hits >= 88


def test_shuffling_keeps_sizes_is_seeded_and_nested() -> None:
    rows = labelled(200, 4, 0.0)
    labels = np.arange(200) % 4
    few, more = (shuffled(rows, labels, share, 3) for share in (0.1, 0.4))
    assert np.array_equal(np.bincount(more), np.bincount(labels))
    assert np.array_equal(more, shuffled(rows, labels, 0.4, 3)) and not np.array_equal(
        more, shuffled(rows, labels, 0.4, 4)
    )
    assert 0 < (few != labels).sum() <= 20 and (more != labels).sum() <= 80


def test_label_noise_refuses_what_cannot_be() -> None:
    with pytest.raises(OutlierError, match="at least two classes"):
        label_noise(labelled(20, 1, 0.0))
    with pytest.raises(OutlierError, match=r"above 0 and is 1 at most, not 1\.5"):
        label_noise(labelled(20, 2, 0.0), shares=(1.5,))
    with pytest.raises(OutlierError, match="leaves too few"):
        label_noise(labelled(20, 2, 0.0), shares=(0.05,))
    _, left_out = label_noise(replace(labelled(60, 2, 0.0), embeddings=None), shares=(0.3,))
    assert set(left_out) == {"Cosine to own class mean", "k-NN label agreement"}


# Depth


def test_each_layer_is_judged_by_itself() -> None:
    dice = np.random.default_rng(0)
    inside = {layer: rows_of_scores(dice.standard_normal(80), spectra=np.ones((80, 2 * layer))) for layer in (2, 1)}
    layers = {n: (inside[n], rows_of_scores(dice.standard_normal(70) + shift)) for n, shift in ((2, -2), (1, 2))}
    found, _ = over_depth(layers, wanted=SCORE)
    assert [(one.layer, one.direction) for one in found] == [(1, "inverted"), (2, "holds")]
    assert found[1].mean_in == pytest.approx(layers[2][0].scores.mean() / 4) and np.isnan(found[1].mean_out)
    with pytest.raises(OutlierError, match="No layer"):
        over_depth({})


def test_corrupted_others_are_paired() -> None:
    scores = np.random.default_rng(0).standard_normal(100)
    clean, other = rows_of_scores(scores), rows_of_scores(scores - 0.1, "noise")
    (loose,), _ = over_depth({1: (clean, other)}, wanted=SCORE)
    (paired,), _ = over_depth({1: (clean, other)}, paired=True, wanted=SCORE)
    assert loose.direction == "undecided" and paired.direction == "holds"
    assert loose.auroc.value == pytest.approx(paired.auroc.value)


# Runs and the command line


Command = Callable[..., Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs folder with one small clean run of the demo, and what the command makes beside it."""
    from jepascore_core.runner import score_dataset
    from jepascore_core.store.request import RunRequest

    home = tmp_path_factory.mktemp("sensitivity")
    for name in ("digits", "photos"):
        score_dataset(RunRequest("demo:jepa-tiny", f"demo:{name}", per_class=6, device="cpu"), runs_dir=home)
    return home


@pytest.fixture(scope="module")
def command(home: Path) -> Command:
    def run(*arguments: str, ok: bool = True) -> Any:
        done = CliRunner().invoke(app, ["sensitivity", *arguments, f"--runs-dir={home}"])
        assert (done.exit_code == 0) is ok, done.output
        if not ok:
            assert isinstance(done.exception, JepaScoreError)
            return str(done.exception)
        return json.loads(done.stdout, parse_constant=pytest.fail) if "--json" in arguments else done.output

    return run


def clean_run(home: Path, dataset: str = "digits") -> str:
    return next(run.name for run in list_runs(home) if run.name.startswith(f"jepa-tiny-{dataset}-") and run.planned > 40
                and not is_variant(run))  # fmt: skip


def test_the_command_scores_what_is_missing_and_no_more(home: Path, command: Command) -> None:
    name = clean_run(home)
    assert "--run scores them" in command(name, ok=False)
    before = (home / name / "run.json").read_bytes()
    asked = (name, "--kinds=noise,occlusion", "--severities=1,5", "--methods=jepa_score,knn", "--json")
    facts = command(*asked, "--run", "--limit=20")
    assert facts["experiment"] == "corruptions" and facts["run"] == name and not facts["missing"]
    assert len(facts["findings"]) == 2 * 2 * 2 and {row["n"] for row in facts["findings"]} == {20}
    names = {
        "kind",
        "severity",
        "strength",
        "method",
        "n",
        "change",
        "change_low",
        "fell",
        "auroc",
        "auroc_high",
        "direction",
    }
    assert names <= facts["findings"][0].keys()
    assert (home / name / "run.json").read_bytes() == before
    count = len(list_runs(home))
    assert command(*asked, "--run", "--limit=20") == facts and len(list_runs(home)) == count
    some = command(name, "--methods=jepa_score", "--json")
    assert len(some["findings"]) == 4 and len(some["missing"]) == 16
    assert "noise 5" in command(name, "--methods=jepa_score")


def test_found_runs_are_those_of_the_same_encoder_and_images(home: Path) -> None:
    clean = open_run(clean_run(home), home)
    runs = list_runs(home)
    found = experiments.find_corrupted(clean, runs)
    assert set(found) == {("noise", 1), ("noise", 5), ("occlusion", 1), ("occlusion", 5)}
    assert not experiments.find_corrupted(open_run(clean_run(home, "photos"), home), runs)
    rows, corrupted = experiments.paired_rows(clean, found)
    assert len(rows) == 60 and all(len(other) == 20 for other in corrupted.values())  # all clean rows to learn from
    requests = experiments.corrupted_requests(clean, list(found), limit=20)
    assert experiments.still_to_score(requests, found) == []
    whole = experiments.corrupted_requests(clean, list(found))
    assert len(experiments.still_to_score(whole, found)) == 4
    with pytest.raises(RunError, match="corrupted themselves"):
        experiments.corrupted_requests(next(iter(found.values())), [("blur", 1)])


def test_the_other_experiments_on_the_command_line(home: Path, command: Command) -> None:
    name = clean_run(home)
    facts = command(name, "--experiment=leave-one-out", "--methods=jepa_score,knn", "--json")
    assert len(facts["findings"]) == 20 and len(facts["macro"]) == 2 and facts["macro"][0]["classes"] == 10
    facts = command(name, "--experiment=label-noise", "--shares=0.2,0.4", "--json")
    assert {row["share"] for row in facts["findings"]} == {0.2, 0.4} and len(facts["findings"]) == 8
    assert "it is the control" in command(name, "--experiment=label-noise", "--shares=0.3")


def test_layers_on_the_command_line(home: Path, command: Command) -> None:
    asked = (
        clean_run(home),
        "--experiment=layers",
        f"--out={clean_run(home, 'photos')}",
        "--methods=jepa_score",
        "--json",
    )
    alone = command(*asked)
    assert [row["layer"] for row in alone["findings"]] == [4] and alone["missing"] == [1, 2, 3]
    facts = command(*asked, "--run", "--limit=12")
    assert [row["layer"] for row in facts["findings"]] == [1, 2, 3, 4] and facts["layers"] == 4 and not facts["missing"]
    assert {row["n_in"] for row in facts["findings"]} == {12}  # the same images at every layer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kinds=fog",), "no corruption 'fog'"),
        (("--severities=0",), "whole number from 1 to 5, not 0"),
        (("--severities=x",), "severities takes numbers"),
        (("--methods=magic",), "no method 'magic'"),
        (("--experiment=layers",), "name the other run with --out"),
        (("--experiment=leave-one-out", "--classes=zebra"), "no scored image of class 'zebra'"),
        (("--experiment=label-noise", "--shares=2"), "above 0 and is 1 at most"),
    ],
)
def test_bad_options_are_one_sentence(home: Path, command: Command, arguments: tuple[str, ...], words: str) -> None:
    said = command(clean_run(home), *arguments, ok=False)
    assert words in said and len(said.splitlines()) == 1


def test_a_jobs_request_comes_back() -> None:
    request = SensitivityRequest("r-1", "corruptions", kinds=("blur",), severities=(1, 3), limit=50)
    assert SensitivityRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    assert request.to_argv() == [
        "r-1",
        "--run",
        "--experiment=corruptions",
        "--kinds=blur",
        "--severities=1,3",
        "--limit=50",
    ]
    with pytest.raises(RunError, match="does not say"):
        SensitivityRequest.from_json({"run": "x"})


def test_importing_it_needs_no_streamlit() -> None:
    code = (
        "import sys, jepascore_core.sensitivity.experiments; print('streamlit' in sys.modules, 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()[0] == "False"
