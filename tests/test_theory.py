"""The theory lab: objectives with known answers, training, the switch that breaks it, and a grid that resumes."""

import json
import math
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from jepascore_core.__main__ import app
from jepascore_core.errors import RunError
from jepascore_core.langevin import energy_test, langevin, uniform_in_box
from jepascore_core.mixture import random_mixture
from jepascore_core.score import jepa_score
from jepascore_core.score_gradient import input_jacobian, score_and_gradient
from jepascore_core.theory import grid as theory_grid
from jepascore_core.theory.encoder import FEW, LabConfig, LabEncoder
from jepascore_core.theory.grid import all_kept, grid, kept, measure, run_grid, summary
from jepascore_core.theory.objectives import LAB_OBJECTIVES, moment_matching, uniformity
from jepascore_core.theory.scores import SCORES, correlation, correlations, lab_scores
from jepascore_core.theory.training import LabStep, LabTraining
from tests.test_cli import ROOT, command

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = LabConfig(samples=300, steps=6, batch_size=32, width=16, depth=2, held_out=60)
QUICK = LabConfig(samples=2000, steps=250, batch_size=256, width=64, depth=3, held_out=500, components=3)


@pytest.fixture(scope="module")
def trained() -> LabTraining:
    """A quick training that works."""
    return run(QUICK)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(config: LabConfig) -> LabTraining:
    training = LabTraining(config)
    for _ in training.run():
        pass
    return training


def sphere_points(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator(), dtype=torch.float64), dim=-1)


# --- objectives ---------------------------------------------------------------------------------


def test_uniformity_equals_the_plain_sum_over_pairs() -> None:
    z = sphere_points(2, 6, 3)
    energies = []
    for t in (2.0, 30.0):
        views = [torch.pdist(view).square().mul(-t).exp().mean().log() for view in z]
        energies.append(sum(views) / 2)
    terms = uniformity(z, 1.0, generator(), temperatures=(2.0, 30.0))
    torch.testing.assert_close(terms.loss, sum(energies) / 2)
    apart = (z[0] - z[1]).square().sum(1).mean() / 4  # each view lies half the distance from their mean
    torch.testing.assert_close(uniformity(z, 0.0, generator()).loss, apart)


def test_uniformity_is_least_on_an_even_circle() -> None:
    def circle(angles: Tensor) -> Tensor:
        return torch.stack([angles.cos(), angles.sin()], dim=1).unsqueeze(0)

    even = torch.arange(64) * 2 * math.pi / 64
    for uneven in (even / 2, even + 0.3 * even.sin(), torch.zeros(64)):
        assert uniformity(circle(uneven), 1.0, generator()).loss > uniformity(circle(even), 1.0, generator()).loss


def test_moment_matching_counts_mean_and_covariance() -> None:
    z = torch.randn(1, 5000, 3, generator=generator(), dtype=torch.float64)
    white = (z - z.mean(1, keepdim=True)) @ torch.linalg.inv(torch.linalg.cholesky(z[0].T.cov())).T
    assert moment_matching(white, 1.0, generator()).loss < 1e-20
    assert moment_matching(white + 2, 1.0, generator()).loss.item() == pytest.approx(4)
    assert moment_matching(2 * white, 1.0, generator()).loss.item() == pytest.approx(9)


@pytest.mark.parametrize("name", LAB_OBJECTIVES)
def test_every_objective_lowers_its_loss_and_shows_how(name: str) -> None:
    config = replace(TINY, objective=name, steps=60, dim=3)
    training = LabTraining(config)
    steps = list(training.run(diagnose_every=25))
    assert [step.step for step in steps] == list(range(60))
    assert sum(step.loss for step in steps[-10:]) < sum(step.loss for step in steps[:10])
    told = [step.step for step in steps if step.eigenvalues is not None]
    assert told == [0, 25, 50, 59] and len(steps[-1].eigenvalues) == config.embedding_dim
    assert set(steps[-1].projections) == {"std", "skewness", "excess_kurtosis", "ks"}
    z = training.encoder(training.held_out.float())
    assert z.shape == (60, config.embedding_dim)
    assert ((z.norm(dim=1) - 1).abs().max() < 1e-5) == LAB_OBJECTIVES[name].on_sphere


# --- training and scores ------------------------------------------------------------------------


def test_the_same_config_is_the_same_training() -> None:
    torch.manual_seed(1)
    first, state = run(TINY), torch.random.get_rng_state()
    torch.manual_seed(2)
    second = run(TINY)
    torch.testing.assert_close(first.encoder.state_dict(), second.encoder.state_dict(), rtol=0, atol=0)
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's random state stays"
    other = run(replace(TINY, seed=1))
    assert not torch.equal(other.samples, first.samples)
    untrained = LabTraining(TINY).encoder.state_dict()
    torch.testing.assert_close(first.untrained.state_dict(), untrained, rtol=0, atol=0)


def test_held_out_points_are_not_trained_on() -> None:
    training = LabTraining(TINY)
    assert torch.cdist(training.held_out, training.samples).min() > 0


def test_the_raw_score_is_eq_5_in_the_units_of_the_data() -> None:
    training = LabTraining(replace(TINY, objective="sigreg"))
    x = training.held_out
    jacobian, _ = input_jacobian(training.encoder.double(), x)
    expected = jacobian.det().abs().log()  # D = d
    torch.testing.assert_close(lab_scores(training.encoder, training.samples, x)["raw"], expected)


def test_on_the_sphere_raw_and_sphere_score_are_one(trained: LabTraining) -> None:
    scores = lab_scores(trained.encoder, trained.samples, trained.held_out)
    assert set(scores) == set(SCORES)
    torch.testing.assert_close(scores["raw"], scores["sphere"], rtol=0, atol=1e-6)


def test_a_linear_net_on_one_gaussian_needs_the_correction() -> None:
    config = replace(TINY, objective="sigreg", components=1, samples=5000, held_out=500, dim=3)
    training = LabTraining(config)
    torch.nn.init.zeros_(training.encoder.mlp[-1].weight)  # what is left is the linear skip
    scores = lab_scores(training.encoder, training.samples, training.held_out)
    truth = training.mixture.log_density(training.held_out)
    assert scores["raw"].std() < 1e-9
    assert correlation(scores["corrected"], truth)[0] > 0.999


def test_the_trained_net_follows_log_p_and_the_untrained_one_does_not(trained: LabTraining) -> None:
    found = correlations(trained)
    assert found["raw_pearson"] > 0.8 and found["raw_spearman"] > 0.8
    assert max(found["untrained_raw_pearson"], found["gaussian_pearson"]) < found["raw_pearson"] - 0.2


@pytest.mark.parametrize("broken", ["no_anticollapse", "few_samples", "collapsed"])
def test_the_lab_can_refute(broken: str, trained: LabTraining) -> None:
    training = run(replace(QUICK, broken=broken))
    assert correlations(training)["raw_pearson"] < correlations(trained)["raw_pearson"] - 0.1
    if broken == "few_samples":
        assert len(training.samples) == FEW
    if broken == "collapsed":
        assert torch.linalg.matrix_rank(training.encoder(training.samples.float())) == 2  # of D = 3


def test_langevin_through_the_jacobian_recovers_the_mixture(trained: LabTraining) -> None:
    """Figure 2, bottom: samples drawn with the gradient of the score alone, in two dimensions."""
    data = trained.held_out
    box = data.amin(0) - 0.5, data.amax(0) + 0.5
    encoder = trained.encoder.double()
    start = uniform_in_box(300, box, generator(1))
    path = langevin(
        lambda x: score_and_gradient(encoder, x, null_dim=1)[1],
        start, box=box, steps=150, step_size=0.05, keep_every=150, generator=generator(2),
    )  # fmt: skip
    trained.encoder.float()
    assert energy_test(path[-1], data).distance < 0.3 * energy_test(start, data).distance


def test_one_gaussian_is_all_that_one_component_needs() -> None:
    found = correlations(LabTraining(replace(TINY, components=1, samples=5000)))
    assert found["gaussian_pearson"] > 0.999


def test_correlation_of_what_does_not_vary_is_not_a_number() -> None:
    rising = torch.arange(5.0)
    assert correlation(rising, rising.exp())[1] == pytest.approx(1) and correlation(rising, -rising)[0] == -1
    assert all(math.isnan(value) for value in correlation(torch.ones(5), rising))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"objective": "magic"}, "uniformity"),
        ({"broken": "everything"}, "collapsed"),
        ({"dim": 1}, "dim must be at least 2"),
        ({"scale_ratio": 0.5}, "scale_ratio"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_what_cannot_be_trained_is_refused(wrong: dict, words: str) -> None:
    with pytest.raises(RunError, match=words):
        LabTraining(replace(TINY, **wrong))


def test_a_diverging_training_says_so() -> None:
    with pytest.raises(RunError, match="lower lr"):
        run(replace(TINY, objective="moments", lr=1e30))


# --- the grid -----------------------------------------------------------------------------------


def tiny_grid(**changes) -> list[LabConfig]:
    options = {name: getattr(TINY, name) for name in ("steps", "batch_size", "width", "depth", "held_out")}
    return grid([3, 2], [100, 50], 2, **options | changes)


def test_a_grid_is_every_cell_once_small_ones_first() -> None:
    cells = [(config.dim, config.samples, config.seed) for config in grid([3, 2, 3], [100, 50], 2)]
    assert cells == [(d, n, s) for d in (2, 3) for n in (50, 100) for s in (0, 1)]
    with pytest.raises(RunError, match="at least one"):
        grid([], [10], 1)
    with pytest.raises(RunError, match="samples"):
        grid([2], [0], 1)


def test_a_grid_stopped_midway_resumes_to_the_same_records(tmp_path: Path) -> None:
    configs, stop, trained = tiny_grid(), threading.Event(), []

    def stop_in_the_third(config: LabConfig, step: LabStep) -> None:
        trained.append(config)
        if config == configs[2] and step.step == 3:
            stop.set()

    first = run_grid(configs, tmp_path, on_step=stop_in_the_third, stop=stop)
    assert len(first) == 2 and len(list((tmp_path / "theory").iterdir())) == 2
    trained.clear()
    whole = run_grid(configs, tmp_path, on_step=lambda config, step: trained.append(config))
    assert whole[:2] == first and not {configs[0], configs[1]} & set(trained) and len(whole) == 8
    unbroken = run_grid(configs, tmp_path / "other")
    drop = {"elapsed_s"}
    assert [{k: v for k, v in r.items() if k not in drop} for r in whole] == [
        {k: v for k, v in r.items() if k not in drop} for r in unbroken
    ]
    assert [kept(config, tmp_path) for config in configs] == whole
    assert len(all_kept(tmp_path)) == 8 and all(record in whole for record in all_kept(tmp_path))


def test_whatever_decides_the_numbers_decides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_grid([TINY], tmp_path)
    assert kept(TINY, tmp_path) and not kept(replace(TINY, noise=0.04), tmp_path)
    (file,) = (tmp_path / "theory").iterdir()
    damaged = file.read_text()[:-20]
    file.write_text(damaged)
    assert kept(TINY, tmp_path) is None and not all_kept(tmp_path)
    run_grid([TINY], tmp_path)
    assert kept(TINY, tmp_path)
    monkeypatch.setattr(theory_grid, "RECIPE", theory_grid.RECIPE + 1)
    assert kept(TINY, tmp_path) is None


def test_a_record_is_what_correlations_say() -> None:
    record = measure(TINY)
    found = correlations(run(TINY))
    assert record is not None
    assert record["pearson"] == pytest.approx(found["raw_pearson"], abs=1e-6)
    assert record["untrained_raw_spearman"] == pytest.approx(found["untrained_raw_spearman"], abs=1e-6)
    assert (record["dim"], record["samples"], record["seed"]) == (2, 300, 0)


def test_summary_is_a_mean_with_students_interval() -> None:
    records = [
        {"dim": 2, "samples": 10, "objective": "sigreg", "broken": "none", "pearson": value}
        for value in (0.2, 0.4, 0.6, None)
    ]
    (cell,) = summary(records)
    half = 4.302653 * 0.2 / math.sqrt(3)
    assert cell["seeds"] == 3 and cell["mean"] == pytest.approx(0.4)
    assert (cell["low"], cell["high"]) == (pytest.approx(0.4 - half), pytest.approx(0.4 + half))
    assert summary(records[:1])[0]["low"] is None


# --- the command --------------------------------------------------------------------------------


def typed(*arguments: object) -> Result:
    """The command in this process: what it prints, without waiting for imports."""
    return CliRunner().invoke(app, ["theory", *map(str, arguments)], env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_the_command_prints_the_records_and_resumes(tmp_path: Path) -> None:
    arguments = ("--dims", "2,3", "--samples", 50, "--seeds", 2, "--steps", 3, "--runs-dir", tmp_path)
    done = typed(*arguments, "--json")
    assert done.exit_code == 0, done.output
    records = json.loads(done.stdout)
    assert [(r["dim"], r["samples"], r["seed"]) for r in records] == [(2, 50, 0), (2, 50, 1), (3, 50, 0), (3, 50, 1)]
    assert all(-1 <= r[name] <= 1 for r in records for name in ("pearson", "spearman", "untrained_corrected_pearson"))
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "theory").iterdir()}
    again = typed(*arguments)  # the table, from what was kept
    assert f"{records[0]['pearson']}" in again.stdout and again.stdout.splitlines()[0].startswith("dim")
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "theory").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dims", "2,x"), "2,x"),
        (("--samples", ""), "samples"),
        (("--objective", "magic"), "uniformity"),
        (("--break", "it"), "collapsed"),
    ],
)
def test_the_command_refuses_in_a_sentence(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    refused = typed(*arguments, "--runs-dir", tmp_path)
    assert isinstance(refused.exception, RunError) and words in str(refused.exception) and not refused.stdout


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    arguments = ("theory", "--dims", 2, "--samples", 50, "--seeds", 500, "--steps", 5, "--runs-dir", tmp_path)
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("theory/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1 and "kept" in stderr and "Traceback" not in stderr and not stdout
    assert all(json.loads(file.read_text())["dim"] == 2 for file in tmp_path.glob("theory/*.json"))


def test_the_encoder_keeps_the_units_of_the_data() -> None:
    samples = random_mixture(2, seed=3).sample(500, generator())
    torch.manual_seed(0)
    encoder = LabEncoder(TINY, samples)
    torch.manual_seed(0)
    scaled = LabEncoder(TINY, 10 * samples + 5)
    torch.testing.assert_close(encoder(samples.float()), scaled((10 * samples + 5).float()), rtol=1e-4, atol=1e-5)
    (near, _), (far, _) = input_jacobian(encoder, samples.float()), input_jacobian(scaled, 10 * samples.float() + 5)
    shift = jepa_score(torch.linalg.svdvals(near)) - jepa_score(torch.linalg.svdvals(far))
    torch.testing.assert_close(shift, torch.full_like(shift, 2 * math.log(10)), rtol=1e-3, atol=1e-3)
