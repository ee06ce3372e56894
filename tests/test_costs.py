"""What a run will take: measured by the real pipeline, remembered, and measured in processes that take turns."""

import time

import pytest
import torch

from jepascore_core import jobs
from jepascore_core.devices import lock_of, resolve_device
from jepascore_core.errors import DatasetError, RunError
from jepascore_core.jobs import children, costs
from jepascore_core.locks import Busy, device_lock, hold, holder_of
from jepascore_core.processes import HOST
from jepascore_core.runner import cost, score_dataset
from jepascore_core.runner.cost import measure_cost
from jepascore_core.runner.precision import Ladder
from jepascore_core.runner.reading import reader
from jepascore_core.runner.scoring import BatchScorer
from jepascore_core.store.costs import Cost, cost_file, read_cost, recorded
from jepascore_core.store.request import RunRequest
from tests.helpers_encoders import tiny_vit
from tests.tiny import TinyDataset, jpeg

GALAXIES = RunRequest("demo:jepa-tiny", "demo:galaxies", device="cpu")


@pytest.fixture
def home(tmp_path):
    """A runs folder; whatever is still at work in the end is killed."""
    home = tmp_path / "runs"
    home.mkdir()
    yield home
    for child in list(children.children):
        child.kill()
        child.wait()


def measured(requests, home, seconds=120.0):
    """Estimates once all are settled; no two measurements ever run at once."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = jobs.estimates(requests, runs_dir=home)
        assert len(costs.at_work(home / ".costs")) <= 1
        if all(estimate.settled for estimate in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{found} after {seconds} s")


def test_the_cost_is_that_of_the_run(tmp_path):
    told = measure_cost(GALAXIES)
    began = time.perf_counter()
    run = score_dataset(GALAXIES, runs_dir=tmp_path)
    took_s = time.perf_counter() - began
    assert told.images == run.progress().done > 100
    assert 0.4 < told.seconds / took_s < 2.5  # far wider than what is measured on a quiet machine
    assert told.seconds == pytest.approx(told.start_s + told.images / told.images_per_s)


def test_a_slow_encoder_is_told_from_a_share_of_its_first_batch(monkeypatch):
    monkeypatch.setattr(cost, "_TYPICAL_S", 0.2)
    monkeypatch.setattr(cost, "_ENOUGH_S", 0.5)

    def slow(*_):
        if not torch.is_grad_enabled():  # on the way back, where the work is
            time.sleep(0.1)

    encoder = tiny_vit("mean", depth=12)
    for block in encoder.model.blocks:
        block.norm1.register_forward_hook(slow)
    dataset = TinyDataset(8)
    score = BatchScorer(Ladder(encoder, summarise=cost._BrokenOff()))
    began = time.perf_counter()
    image_s, _ = cost._pace(dataset.items, reader(dataset, encoder.transform, jpeg), score, 4)
    assert time.perf_counter() - began < 4.0  # a batch takes 4.8 s
    assert 12 * 0.1 * 0.8 < image_s < 2 * 12 * 0.1  # other work on the cores makes it longer


@pytest.mark.parametrize(
    ("seen", "whole"),
    [
        ([(6.0, 0.5)], 12.0),
        ([(2.0, 0.1), (6.0, 0.5)], 11.0),  # the beginning took longer than its share
        ([(6.0, 1.0)], 6.0),
    ],
)
def test_what_is_left_of_a_batch_goes_on_as_it_went_last(seen, whole):
    assert cost._whole(seen) == pytest.approx(whole)


def test_the_first_batches_are_warm_up_and_no_batch_is_judged_alone():
    assert cost._unsure([0.3, 0.3, 0.3]) and cost._unsure([5.0]) and cost._unsure([0.6, 0.6, 1.9])
    assert not cost._unsure([5.0, 4.0]) and not cost._unsure([0.6, 0.6, 1.0, 1.1])


def test_nothing_is_downloaded(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = measure_cost(RunRequest("timm:test_vit.r160_in1k", "mnist", device="cpu"))
    assert told.images_per_s > 0 and told.images is None and told.seconds is None
    assert told.seconds_for(10) > told.start_s


def test_images_that_cannot_be_read_are_no_speed(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"not an image")
    with pytest.raises(RunError, match=r"^None of the first \d+ images can be scored: Not an image"):
        measure_cost(RunRequest("demo:jepa-tiny", f"folder:{tmp_path}", device="cpu"))
    with pytest.raises(DatasetError, match="No class"):
        measure_cost(RunRequest("demo:jepa-tiny", "demo:photos", classes=("unicorn",), device="cpu"))


def test_a_busy_device_is_told_and_leaves_no_record(home):
    path = cost_file(GALAXIES, home)
    path.parent.mkdir()
    with hold(device_lock("cpu"), holder="another run", waiting=lambda words: None):
        assert holder_of(device_lock("cpu")) == "another run"
        with pytest.raises(Busy, match="cpu is busy with another run"), recorded(path):
            measure_cost(GALAXIES)
        (estimate,) = jobs.estimates([GALAXIES], runs_dir=home)
        assert (estimate.busy_with, estimate.settled) == ("another run", False)
    assert holder_of(device_lock("cpu")) is None and not list(path.parent.glob("*.json")) and not children.children


@pytest.mark.parametrize("driver", [False, True])
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_a_device_has_one_lock_however_it_is_found(name, driver, monkeypatch):
    monkeypatch.setattr(costs, "_gpu_driver", lambda: driver or torch.cuda.is_available())
    assert costs._lock(name) == lock_of(resolve_device(name))


def test_words_of_a_killed_holder_do_not_count():
    lock = device_lock("cpu")
    lock.with_name(f"{lock.name}.holder").write_text("a run that was killed")
    assert holder_of(lock) is None


def test_what_decides_the_speed_decides_the_record(home):
    path = cost_file(GALAXIES, home)
    for change in ({"device": "cuda"}, {"views": 2}, {"precision": "float64"}, {"input_size": 64}, {"batch_size": 3}):
        assert cost_file(RunRequest.from_json(GALAXIES.to_json() | change), home) != path
    for change in ({"limit": 5}, {"per_class": 2}, {"seed": 3}, {"classes": ["faint"]}):
        assert cost_file(RunRequest.from_json(GALAXIES.to_json() | change), home) == path
    assert HOST not in path.name


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"images_per_s": 0.0, "start_s": 1.0}', '{"images_per_s": "3", "start_s": 1.0}', '{"start_s": 1.0}'],
)
def test_a_damaged_record_is_passed_over(content, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(content)
    assert read_cost(path) is None


def test_a_record_is_read_as_it_was_written(tmp_path):
    path, told = tmp_path / "a.json", Cost(12.5, 3.0, "cpu", 273)
    with recorded(path) as keep:
        keep(told)
    assert read_cost(path) == told
    with pytest.raises(ValueError), recorded(path):
        raise ValueError("a surprise")
    assert read_cost(path) == "ValueError: a surprise"


@pytest.mark.slow
def test_costs_are_measured_one_after_the_other_and_remembered(home):
    unknown = RunRequest("demo:no-such-encoder", "demo:galaxies", device="cpu")
    twin = RunRequest("demo:jepa-tiny-untrained", "demo:galaxies", device="cpu", limit=5)
    failed, known = measured([unknown, twin], home)
    assert known.cost.device == "cpu" and known.cost.images > 100  # of the whole dataset
    assert failed.cost is None and "no-such-encoder" in failed.problem and "\n" not in failed.problem
    jobs.estimates([unknown, twin], runs_dir=home)
    assert not costs.at_work(home / ".costs")  # neither again nor retried
    jobs.forget([unknown], runs_dir=home)
    assert not jobs.estimates([unknown], runs_dir=home)[0].settled and len(costs.at_work(home / ".costs")) == 1
    assert measured([unknown], home)[0].problem == failed.problem


@pytest.mark.slow
def test_a_run_breaks_a_measurement_off_and_goes_before_it(home):
    assert not jobs.estimates([GALAXIES], runs_dir=home)[0].settled
    job = jobs.start(RunRequest("demo:jepa-tiny", "demo:galaxies", limit=4, device="cpu"), runs_dir=home)
    assert not costs.at_work(home / ".costs")
    (waiting,) = jobs.estimates([GALAXIES], runs_dir=home)
    assert waiting.busy_with and not costs.at_work(home / ".costs")
    (estimate,) = measured([GALAXIES], home)
    assert estimate.cost is not None and not next(j for j in jobs.list_jobs(home) if j.id == job.id).active


def test_a_measurement_that_was_killed_is_one_sentence(home):
    jobs.estimates([GALAXIES], runs_dir=home)
    (child,) = children.children
    child.kill()
    child.wait()
    (estimate,) = jobs.estimates([GALAXIES], runs_dir=home)
    assert "without a word" in estimate.problem and not costs.at_work(home / ".costs")
