"""The Theory lab: experiments that are watched, the page around them, and grids as jobs."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from jepascore_core import jobs, store
from jepascore_core.errors import RunError
from jepascore_core.jobs import TheoryRequest, children
from jepascore_core.locks import device_lock, hold
from jepascore_core.theory import grid as theory_grid
from jepascore_core.theory import live as theory_live
from jepascore_core.theory.encoder import BREAKS, LabConfig
from jepascore_core.theory.live import Experiment, Shelf
from jepascore_core.theory.objectives import LAB_OBJECTIVES
from jepascore_core.theory.worker import Worker
from pages.components import lab, lab_grid, lab_words

pytestmark = pytest.mark.usefixtures("served_before", "nothing_left_at_work")
ROOT = Path(__file__).parent.parent
TINY = LabConfig(steps=4, samples=60, held_out=40, width=8, depth=1, batch_size=16)
WORKER = Worker()  # started by the first test that needs it
GRID = TheoryRequest(dims=(2, 3), samples=(50,), seeds=2, steps=3)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments that take a moment, whatever the page asks for."""
    shelf = Shelf(worker=WORKER)
    monkeypatch.setattr(lab, "shelf", lambda: shelf)
    monkeypatch.setenv("JEPASCORE_DEMO", "0")
    monkeypatch.setattr(theory_live, "WALK_STEPS", 10)
    monkeypatch.setattr(theory_live, "WALKERS", 30)
    wide = lab.LabConfig

    def narrow(**options: Any) -> LabConfig:
        return wide(**{**options, "steps": 4, "held_out": 40, "width": 8, "depth": 1, "batch_size": 16})

    monkeypatch.setattr(lab, "LabConfig", narrow)


@pytest.fixture(scope="module", autouse=True)
def worker_ends() -> Iterator[None]:
    yield
    WORKER.close()


def opened(**query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    for name, value in query.items():
        at.query_params[name] = value
    return at.switch_page("pages/theory_lab.py").run()


def check(at: AppTest) -> AppTest:
    assert not at.exception
    assert not at.error, [error.value for error in at.error]
    return at


def words(at: AppTest) -> str:
    kinds = (at.title, at.subheader, at.markdown, at.caption, at.error, at.warning)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def finished(at: AppTest, seconds: float = 60) -> AppTest:
    """The page once its training is done; AppTest has no clock of its own, so the fragment is run by hand."""
    until = time.monotonic() + seconds
    while "held-out points; r is" not in words(at):
        assert time.monotonic() < until, words(at)
        time.sleep(0.1)
        check(at.run())
    return at


def waited(experiment: Experiment, work: str = "training", seconds: float = 60) -> Experiment:
    until = time.monotonic() + seconds
    while getattr(experiment, work).active:
        assert time.monotonic() < until
        time.sleep(0.01)
    return experiment


def test_the_shelf_trains_once_and_remembers() -> None:
    shelf = Shelf(worker=WORKER)
    experiment = waited(shelf.watch(TINY, "me"))
    assert experiment.training.state == "done" and experiment.training.done == len(experiment.history) == 4
    assert experiment.result is not None and experiment.result.truth.shape == (40,)
    assert experiment.diagnosed is not None and experiment.diagnosed.step == 3
    assert shelf.watch(TINY, "you") is experiment
    assert shelf.watch(replace(TINY, seed=1), "me") is not experiment


def test_looking_away_ends_a_training_and_looking_again_begins_anew() -> None:
    shelf = Shelf(worker=WORKER)
    long = replace(TINY, steps=100_000)
    experiment = shelf.watch(long, "me")
    while not experiment.history:
        time.sleep(0.01)
    other = shelf.watch(TINY, "me")
    assert waited(experiment).training.state == "abandoned"
    assert waited(other).training.state == "done"
    again = shelf.watch(long, "me")
    assert again is not experiment and again.training.active
    shelf.watch(TINY, "me")
    waited(again)


def test_one_that_somebody_else_watches_goes_on_until_all_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(worker=WORKER)
    experiment = shelf.watch(replace(TINY, steps=100_000), "me")
    shelf.watch(experiment.config, "you")
    shelf.watch(TINY, "me")
    time.sleep(0.2)
    assert experiment.training.active
    monkeypatch.setattr(theory_live, "PATIENCE_S", 0.05)
    assert waited(experiment).training.state == "abandoned"


def test_the_shelf_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(most=2, worker=WORKER)
    kept = [waited(shelf.watch(replace(TINY, seed=seed), "me")) for seed in range(4)]
    assert shelf.watch(kept[3].config, "me") is kept[3]
    assert shelf.watch(kept[0].config, "me") is not kept[0]


def test_a_failing_experiment_says_why() -> None:
    shelf = Shelf(worker=WORKER)
    experiment = waited(shelf.watch(replace(TINY, lr=1e30, steps=50), "me"))
    assert experiment.training.state == "failed" and "lr" in experiment.training.message
    with pytest.raises(RunError, match="finished experiment"):
        shelf.sample(experiment)
    with pytest.raises(RunError, match="objective"):
        shelf.watch(replace(TINY, objective="magic"), "me")


def test_a_worker_that_dies_is_told_and_replaced() -> None:
    shelf = Shelf(worker=WORKER)
    long = replace(TINY, steps=100_000)
    experiment = shelf.watch(long, "me")
    while not experiment.history:
        time.sleep(0.01)
    process = WORKER._process
    assert process is not None
    process.kill()
    assert waited(experiment).training.state == "failed" and "without a word" in experiment.training.message
    shelf.forget(long)
    assert waited(shelf.watch(replace(TINY, seed=9), "me")).training.state == "done"
    assert WORKER._process is not process


def test_the_worker_goes_with_its_server() -> None:
    worker = Worker()
    with closing(worker.ask("train", TINY)) as told:
        assert next(told)[0] == "step"
    process = worker._process
    assert process is not None and process.poll() is None and process.stdin is not None
    process.stdin.close()  # as the system does for a server that was killed
    assert process.wait(20) == 0


@pytest.mark.parametrize("objective", LAB_OBJECTIVES)
@pytest.mark.parametrize("broken", ["none", "collapsed"])
def test_every_encoder_walks(objective: str, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theory_live, "WALK_STEPS", 10)
    monkeypatch.setattr(theory_live, "WALKERS", 20)
    shelf = Shelf(worker=WORKER)
    experiment = waited(shelf.watch(replace(TINY, objective=objective, broken=broken), "me"))
    shelf.sample(experiment)
    shelf.sample(experiment)  # asked twice, drawn once
    waited(experiment, "sampling")
    assert experiment.walk is not None and experiment.sampling is not None and experiment.sampling.done == 20
    assert set(experiment.walk.tests) == {"uniform", "score", "exact"}
    assert experiment.walk.paths["score"].shape == (2, 20, 2)
    low, high = experiment.walk.box
    assert ((experiment.walk.paths["score"] >= low) & (experiment.walk.paths["score"] <= high)).all()


def test_the_page_trains_draws_and_samples(small: None) -> None:
    at = check(opened(seed="1"))
    assert at.title[0].value == "Theory lab" and "Figure 2" in words(at)
    finished(at)
    text = words(at)
    assert "untrained" in text and "one fitted Gaussian" in text
    assert len(at.get("plotly_chart")) == 6  # density, score, grid, scatter, loss, eigenvalues
    assert list(at.table[0].value.iloc[:, 0]) == ["raw", "sphere", "corrected", "one\u00a0Gaussian"]
    at.button(key="draw_samples").click().run()
    until = time.monotonic() + 60
    while "Energy distance from" not in words(check(at.run())):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert "The exact gradient reaches" in words(at)
    assert len(at.get("plotly_chart")) == 7


def test_another_view_or_reload_is_instant(small: None) -> None:
    finished(check(opened(seed="2")))
    assert "held-out points; r is" in words(check(opened(seed="2")))  # a second session, at once
    assert "held-out points; r is" not in words(check(opened(seed="3")))


@pytest.mark.parametrize("objective", lab.OBJECTIVES)
@pytest.mark.parametrize("broken", list(lab.BREAKS)[1:])
def test_broken_experiments_say_so(objective: str, broken: str, small: None) -> None:
    at = finished(check(opened(objective=objective, samples="100", which="Corrected", **{"break": broken})))
    said = next(m.value for m in at.markdown if "untrained" in m.value.lower())
    assert said.startswith(("With half", "Without the anti", "With 32 samples", "**The score does not vary"))


def test_many_dimensions_have_no_plane(small: None) -> None:
    at = finished(check(opened(dim="8", samples="100")))
    assert len(at.get("plotly_chart")) == 3
    assert not [button for button in at.button if button.label == "Draw samples"]


HOSTILE = {
    "view": "<script>", "objective": "sigreg; drop", "break": "💥", "dim": "-3", "samples": "1e9", "seed": "9" * 400,
    "components": "NaN", "separation": "inf", "anisotropy": "", "scales": "0x10", "which": "**raw**",
}  # fmt: skip


@pytest.mark.parametrize("number", ["9" * 400, "inf", "-1e400", "NaN", "", "1;2"])
def test_no_number_of_the_address_breaks_the_page(number: str, small: None) -> None:
    numbers = ("seed", "components", "separation", "anisotropy", "scales")
    at = check(opened(samples="100", **dict.fromkeys(numbers, number)))
    assert any("The address asks for an unknown seed" in caption.value for caption in at.caption)
    finished(at)


@pytest.mark.parametrize("view", ["One experiment", "Dimension × samples"])
def test_an_empty_address_is_as_good_as_none(view: str, small: None) -> None:
    names = ("objective", "break", "dim", "samples", "seed", "components", "which", "ratio", "of", "r")
    check(opened(view=view, **dict.fromkeys(names, "")))


def test_a_hostile_address_gives_the_defaults_and_one_sentence(small: None) -> None:
    at = check(opened(**HOSTILE))
    told = [caption.value for caption in at.caption if "The address asks for" in caption.value]
    assert any("seed" in sentence and "dim" in sentence for sentence in told)
    assert "<script>" not in words(at) and "💥" not in words(at)
    labels = " ".join(popover.proto.popover.label for popover in at.get("popover"))
    for value in ("Uniformity", "Nothing", "5 components"):
        assert value in labels
    finished(at)


@pytest.mark.parametrize("name", ["objective", "ratio", "of", "r", "break"])
def test_a_hostile_grid_address_is_calm(name: str, small: None) -> None:
    at = check(opened(view="Dimension × samples", **{name: "<b>nonsense</b>"}))
    assert "No experiment of this kind yet" in words(at)
    assert f"unknown {name};" in words(at)


def kept_records(dims: tuple[int, ...] = (2, 8), seeds: int = 2, **options: Any) -> None:
    """Records as a grid keeps them, made without a training."""
    home = store.runs_home(None)
    for config in theory_grid.grid(dims, (100, 1000), seeds, **options):
        numbers = {
            f"{prefix}{kind}": 0.9 - 0.1 * config.seed - 0.3 * bool(prefix)
            for prefix in ("", "sphere_", "corrected_", "untrained_raw_", "gaussian_")
            for kind in ("pearson", "spearman")
        }
        named = {name: getattr(config, name) for name in ("dim", "samples", "seed", "objective", "broken")}
        record = named | numbers | {"elapsed_s": 2.0, "config": theory_grid.asdict(config)}
        theory_grid._keep(record | {"recipe": theory_grid.RECIPE}, theory_grid._path(config, home))


def test_the_heatmap_shows_one_kind_of_experiment(small: None) -> None:
    kept_records()
    kept_records(dims=(64,), scale_ratio=4.0)
    kept_records(dims=(32,), broken="collapsed")
    at = check(opened(view="Dimension × samples"))
    text = words(at)
    assert "internalise the density" in text and "0.85" in text
    assert "beaten everywhere" in text
    (chart,) = at.get("plotly_chart")
    assert "d = 8" in chart.proto.spec and "d = 32" not in chart.proto.spec and "d = 64" not in chart.proto.spec
    (chart,) = check(opened(view="Dimension × samples", of="One Gaussian", ratio="4", r="Spearman")).get("plotly_chart")
    assert "d = 64" in chart.proto.spec and "d = 8" not in chart.proto.spec


def test_the_cost_of_a_grid_is_told_by_those_run_before(small: None) -> None:
    kept_records(dims=(2, 8, 32), seeds=1)
    at = check(opened(view="Dimension × samples"))
    assert "15 new experiments, 3 are here; about 30 s by those run before" in words(at).replace("\\", "")
    at.number_input(key="grid_seeds").set_value(1).run()
    at.pills(key="grid_samples").set_value(["1000"]).run()
    assert "All 3 experiments are here already" in words(check(at))
    at.pills(key="grid_dims").set_value([]).run()
    assert "Choose a dimension" in words(check(at))
    assert next(button for button in at.button if button.label == "Start").disabled


def ended(job: jobs.Job, seconds: float = 90) -> jobs.Job:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        now = next(other for other in jobs.list_jobs() if other.id == job.id)
        if not now.active:
            return now
        time.sleep(0.05)
    raise AssertionError(f"the job is still {now.state}")


@pytest.mark.slow
def test_a_grid_waits_is_cancelled_resumed_and_done(small: None) -> None:
    with hold(device_lock("cpu"), holder="birds", waiting=lambda holder: None):
        job = jobs.start_theory(GRID)
        assert job.kind == "theory" and job.request == GRID.to_json()
        while "birds" not in (now := next(j for j in jobs.list_jobs() if j.id == job.id)).message:
            assert now.active
            time.sleep(0.05)
        assert now.state == "waiting" and now.planned == 4
        for page in ("Overview", "Score images"):
            at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
            at = at if page == "Overview" else at.switch_page("pages/score_images.py").run()
            assert "Theory lab" in words(check(at)) and "0 of 4 experiments" in words(at)
        at = check(opened(view="Dimension × samples"))
        next(button for button in at.button if button.label == "Cancel").click().run()
        assert ended(job).state == "cancelled"
    at = check(opened(view="Dimension × samples"))
    next(button for button in at.button if button.label == "Resume").click().run()
    (again,) = jobs.list_jobs()
    done = ended(again)
    assert (done.state, done.done, done.planned, done.message) == ("done", 4, 4, "")
    records = theory_grid.all_kept(store.runs_home(None))
    assert sorted((r["dim"], r["seed"]) for r in records) == [(2, 0), (2, 1), (3, 0), (3, 1)]
    times = {path: path.stat().st_mtime_ns for path in (store.runs_home(None) / "theory").glob("*.json")}
    assert ended(jobs.resume(done)).done == 4  # nothing is run twice
    assert times == {path: path.stat().st_mtime_ns for path in times}


@pytest.mark.slow
def test_a_grid_that_is_killed_can_go_on(small: None) -> None:
    job = jobs.start_theory(replace(GRID, seeds=50, steps=60))
    while not next(j for j in jobs.list_jobs() if j.id == job.id).done:
        time.sleep(0.05)
    children.children[-1].kill()
    gone = ended(job)
    assert gone.state == "interrupted" and 0 < gone.done < 100
    assert "interrupted after" in words(check(opened(view="Dimension × samples")))


def test_a_grid_that_fails_is_one_sentence(small: None) -> None:
    home = store.runs_home(None)
    (home / "theory").write_text("a file where the folder should be")
    job = jobs.start_theory(GRID)
    assert ended(job).state == "failed"
    at = opened(view="Dimension × samples")
    assert not at.exception and len(at.error) == 1 and "Cannot keep a result" in at.error[0].value.replace("\\", "")


@pytest.mark.parametrize("changes", [{"dims": ()}, {"dims": (1,)}, {"objective": "x"}, {"seeds": 400}, {"steps": 0}])
def test_impossible_grids_start_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(RunError):
        jobs.start_theory(replace(GRID, **changes))
    assert jobs.list_jobs() == []


def test_a_request_survives_its_file_and_its_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from jepascore_core.__main__ import app
    from jepascore_core.commands import training

    assert TheoryRequest.from_json(GRID.to_json()) == GRID
    with pytest.raises(RunError):
        TheoryRequest.from_json({"dims": 3})
    seen: list[LabConfig] = []
    monkeypatch.setattr(training, "_run_theory", lambda configs, *rest: seen.extend(configs) or [{}] * len(configs))
    asked = replace(GRID, broken="collapsed", objective="sigreg", scale_ratio=1.0)
    result = CliRunner().invoke(app, ["theory", *asked.to_argv(), "--json", f"--runs-dir={tmp_path}"])
    assert result.exit_code == 0, result.output
    options = {"steps": 3, "broken": "collapsed", "objective": "sigreg", "scale_ratio": 1.0}
    assert seen == theory_grid.grid((2, 3), (50,), 2, **options)


@pytest.mark.parametrize("trained", [0.95, 0.5, 0.1, -0.6, float("nan")])
@pytest.mark.parametrize("broken", BREAKS)
def test_the_verdict_follows_from_the_numbers(trained: float, broken: str) -> None:
    found = {"raw_pearson": trained, "untrained_raw_pearson": 0.1, "gaussian_pearson": 0.3}
    said = lab_words.verdict(replace(TINY, broken=broken), found, "raw")
    assert ("learned the density" in said) == (trained == 0.95)
    assert ("nothing of the density" in said) == (trained == 0.1)
    assert ("worse" in said) == (trained == -0.6)
    assert ("does not vary" in said) == (trained != trained)


def test_only_records_of_one_recipe_are_compared() -> None:
    kept_records()
    records = theory_grid.all_kept(store.runs_home(None))
    assert len(lab_grid.matching(records, "uniformity", "none", 2.0)) == 8
    assert lab_grid.matching(records, "uniformity", "none", 1.0) == []
    records[0]["config"]["steps"] = 5
    records.append({"recipe": theory_grid.RECIPE})  # a file that somebody else wrote there
    assert len(lab_grid.matching(records, "uniformity", "none", 2.0)) == 7
