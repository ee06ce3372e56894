import dataclasses
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from jepascore_core import store
from jepascore_core.datasets.base import Item
from jepascore_core.devices import resolve_device
from jepascore_core.errors import SHORT_OF_MEMORY, DatasetError, RunError
from jepascore_core.jacobian import jacobian_summary
from jepascore_core.locks import Cancelled, device_lock, hold
from jepascore_core.processes import stop_on_signals
from jepascore_core.runner import Hooks, reading, score_dataset, score_work, scoring
from jepascore_core.runner.here import run_scoring
from jepascore_core.runner.planning import default_batch_size
from jepascore_core.runner.precision import Ladder
from jepascore_core.runner.reading import Loaded, read_ahead
from jepascore_core.runner.scoring import BatchScorer
from jepascore_core.score import jepa_score, views_score
from jepascore_core.store import part_writer, parts
from jepascore_core.store.request import RunRequest, format_classes, split_classes
from jepascore_core.view_policy import draw_view
from tests.children import assert_same_rows, context
from tests.helpers_encoders import tiny_vit
from tests.tiny import SIDE, D, TinyDataset, jpeg, tiny_encoder, tiny_transform, tiny_work


def hooks(**given) -> Hooks:
    return Hooks(given.pop("stop", threading.Event()), **given)


def rows_of(run) -> pd.DataFrame:
    frames = [pd.read_parquet(path) for path in parts.part_files(run.path)]
    return pd.concat(frames).sort_values("index", ignore_index=True)


def test_scores_every_image_and_names_the_bad_one(tmp_path):
    stages, seen = [], []
    run = score_work(tiny_work(tmp_path), hooks(on_stage=stages.append, on_progress=seen.append))
    rows = rows_of(run)
    assert list(rows["index"]) == list(range(24))
    assert rows.loc[3, "error"] == "The file is empty."
    assert rows.loc[3, ["jepa_score", "singular_values", "embedding", "thumbnail"]].isna().all()
    scored = rows.drop(index=3)
    assert scored["error"].isna().all() and scored["jepa_score"].notna().all()
    assert (scored["width"] == 30).all() and (scored["height"] == 20).all()
    assert run.progress().state == "done"
    assert store.counts(run) == {"planned": 24, "done": 23, "failed": 1}
    assert stages == ["scoring"]
    assert (seen[-1].state, seen[-1].done, seen[-1].failed) == ("done", 23, 1)
    assert set(seen[-1].stages) == {"read_s", "score_s", "write_s"}


def test_a_row_holds_what_the_maths_says(tmp_path):
    work = tiny_work(tmp_path)
    row = store.row(score_work(work, hooks()), "cat/0004.png")
    image = tiny_transform(work.dataset.read(work.dataset.items[4])).unsqueeze(0)
    summary = jacobian_summary(tiny_encoder(), image)
    assert row["jepa_score"] == pytest.approx(jepa_score(summary.singular_values).item(), rel=1e-5)
    np.testing.assert_allclose(row["singular_values"], summary.singular_values[0], rtol=1e-5)
    np.testing.assert_allclose(row["embedding"], tiny_encoder()(image)[0].numpy(), rtol=1e-4, atol=1e-6)
    assert row["sphere_term"] == pytest.approx(summary.sphere_term.item(), rel=1e-4)
    assert 0 < row["score_error"] < 1e-2
    assert row["view_scores"] is None


def test_the_same_request_is_the_same_run_and_returns_at_once(tmp_path):
    first = score_work(tiny_work(tmp_path), hooks())
    before = {path: path.stat().st_mtime_ns for path in parts.part_files(first.path)}
    created = first.meta["created"]
    again = score_work(tiny_work(tmp_path, batch_size=7), hooks())
    assert again.path == first.path and again.meta["created"] == created
    assert {path: path.stat().st_mtime_ns for path in parts.part_files(first.path)} == before


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"per_class": 3}, {"limit": 5}, {"views": 2}, {"precision": "float64"}]
)
def test_what_decides_the_numbers_decides_the_name(tmp_path, change):
    names = {score_work(tiny_work(tmp_path, **options), hooks()).name for options in ({}, change)}
    assert len(names) == 2


def test_cancelled_and_resumed_equals_unbroken(tmp_path):
    stop = threading.Event()

    def cancel(progress):
        if progress.done >= 8:
            stop.set()

    stages: list[str] = []
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    half = score_work(tiny_work(tmp_path / "a"), hooks(stop=stop, on_progress=cancel, on_stage=stages.append))
    progress = half.progress()
    assert progress.state == "cancelled" and 8 <= progress.done + progress.failed < 24
    assert store.counts(half)["done"] == progress.done  # what was scored was written
    whole = score_work(tiny_work(tmp_path / "a"), hooks())
    unbroken = score_work(tiny_work(tmp_path / "b"), hooks())
    assert whole.path == half.path and whole.name == unbroken.name
    assert_same_rows(rows_of(whole), rows_of(unbroken))


@pytest.mark.parametrize(("patience_s", "done"), [(0.0, 8), (60.0, 12)])
def test_a_cancel_ends_a_long_batch_in_its_midst_and_finishes_a_short_one(tmp_path, monkeypatch, patience_s, done):
    monkeypatch.setattr(scoring, "_FINISHED_S", patience_s)
    stop, seen = threading.Event(), []

    def cancel_in_the_third_batch(module, images):
        seen.append(images)
        if len(seen) == 2 * 4 + 1:  # a transformer takes image by image
            stop.set()

    encoder = tiny_vit("mean")
    encoder.register_forward_pre_hook(cancel_in_the_third_batch)
    run = score_work(tiny_work(tmp_path, TinyDataset(), encoder), hooks(stop=stop))
    assert run.progress().state == "cancelled" and run.progress().done == done
    assert store.counts(run)["done"] == done and len(store.failures(run)) == 0


def test_a_damaged_part_is_scored_again(tmp_path):
    run = score_work(tiny_work(tmp_path), hooks())
    (part,) = parts.part_files(run.path)
    unbroken = rows_of(run)
    part.write_bytes(part.read_bytes()[:-100])
    assert store.counts(run)["done"] == 0
    run = score_work(tiny_work(tmp_path), hooks())
    assert_same_rows(rows_of(run), unbroken)
    assert (run.path / f"{part.name}.damaged").exists() and run.warning is None


def test_a_damaged_page_is_found_on_resume(tmp_path):
    run = score_work(tiny_work(tmp_path), hooks())
    unbroken = rows_of(run)
    (part,) = parts.part_files(run.path)
    data = bytearray(part.read_bytes())
    offset = parts.pq.read_metadata(part).row_group(0).column(1).data_page_offset  # the keys
    for i in range(offset + 20, offset + 60):
        data[i] ^= 0xFF
    part.write_bytes(data)
    run = score_work(tiny_work(tmp_path), hooks())
    assert_same_rows(rows_of(run), unbroken)


def test_leftovers_of_a_dead_writer_are_removed(tmp_path):
    run = score_work(tiny_work(tmp_path), hooks())
    leftover = run.path / ".part-000009-abcdef12.parquet.77-00112233.tmp"
    leftover.write_bytes(b"half")
    score_work(tiny_work(tmp_path), hooks())
    assert not leftover.exists()


def test_garbage_in_run_json_is_healed(tmp_path):
    run = score_work(tiny_work(tmp_path), hooks())
    (run.path / "run.json").write_text("{garbage")
    (run.path / "progress.json").write_text("[]")
    healed = score_work(tiny_work(tmp_path), hooks())
    assert healed.problem is None and healed.warning is None and healed.progress().state == "done"


def test_parts_of_another_format_are_left_alone(tmp_path, monkeypatch):
    run = score_work(tiny_work(tmp_path), hooks())
    (part,) = parts.part_files(run.path)
    table = parts.pq.read_table(part)
    parts.pq.write_table(table.replace_schema_metadata({"jepascore_format_version": "99"}), part)
    with pytest.raises(RunError, match="format 99"):
        score_work(tiny_work(tmp_path), hooks())
    assert part.exists()


class Moody(nn.Module):
    """Fails, or gives infinity, on images that begin with a certain value."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        first = images[:, 0, 0, 0]
        if (first.detach() > 0.9).any():
            raise ValueError("not this one")
        return self.inner(images) * torch.where(first < -0.9, torch.inf, 1.0)[:, None]


def test_one_image_that_breaks_the_encoder_does_not_take_the_others(tmp_path):
    values = iter([255, 128, 0, 128] + [128] * 20)
    dataset = TinyDataset()
    flat = {item.index: Image.new("RGB", (9, 9), (next(values),) * 3) for item in dataset.items}
    dataset.read = lambda item: flat[item.index]
    encoder = tiny_encoder(model=Moody(tiny_encoder().model))
    run = score_work(tiny_work(tmp_path, dataset, encoder, batch_size=8), hooks())
    errors = store.failures(run).set_index("index")["error"]
    assert list(errors.index) == [0, 2]
    assert "not this one" in errors[0] and "not finite" in errors[2]
    assert store.counts(run)["done"] == 22
    assert store.row(run, dataset.items[0].key)["thumbnail"]  # still shown


def test_an_encoder_that_fails_on_everything_ends_the_run(tmp_path):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            raise ValueError("shapes")

    with pytest.raises(RunError, match="16 images in a row"):
        score_work(tiny_work(tmp_path, TinyDataset(40), tiny_encoder(model=Broken()), batch_size=16), hooks())
    (run,) = store.list_runs(tmp_path)
    assert run.progress().state == "failed" and "shapes" in run.progress().message
    assert store.counts(run)["failed"] == 0  # nothing is recorded against the images


def test_memory_errors_halve_the_batch(tmp_path):
    sizes = []

    def greedy(encoder, images, **options):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return jacobian_summary(encoder, images, **options)

    work = tiny_work(tmp_path)
    batch = [Loaded(item, tiny_transform(work.dataset.read(item)).unsqueeze(0)) for item in work.dataset.items[4:12]]
    rows = BatchScorer(Ladder(work.encoder, summarise=greedy))(batch)
    assert all(row["error"] is None and row["jepa_score"] for row in rows)
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_one_image_that_does_not_fit_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "_PAUSES_S", (0.0, 0.0))

    def hungry(encoder, images, **options):
        raise MemoryError

    work = tiny_work(tmp_path)
    loaded = Loaded(work.dataset.items[0], torch.zeros(1, 3, SIDE, SIDE))
    with pytest.raises(RunError, match="does not fit in the memory of cpu"):
        BatchScorer(Ladder(work.encoder, summarise=hungry))([loaded])


def test_memory_that_another_process_took_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "_PAUSES_S", (0.0, 0.0))
    attempts = []

    def crowded(encoder, images, **options):
        attempts.append(len(images))
        if len(attempts) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return jacobian_summary(encoder, images, **options)

    work = tiny_work(tmp_path)
    loaded = Loaded(work.dataset.items[0], tiny_transform(work.dataset.read(work.dataset.items[0])).unsqueeze(0))
    (row,) = BatchScorer(Ladder(work.encoder, summarise=crowded))([loaded])
    assert row["jepa_score"] is not None and attempts == [1, 1, 1]


def test_an_image_is_not_blamed_for_a_lack_of_memory(tmp_path, monkeypatch):
    def hungry(item):
        raise MemoryError

    dataset = TinyDataset()
    read, dataset.read = dataset.read, hungry
    monkeypatch.setattr(reading, "_ORDINARY_IMAGE_BYTES", 1 << 60)
    with pytest.raises(MemoryError):
        score_work(tiny_work(tmp_path, dataset), hooks())
    (run,) = store.list_runs(tmp_path)
    assert (run.progress().state, run.progress().message) == ("failed", SHORT_OF_MEMORY)
    dataset.read = read
    assert score_work(tiny_work(tmp_path, dataset), hooks()).progress().done == 24


def test_an_image_too_large_for_a_memory_that_holds_others_is_named(tmp_path):
    def hungry(item):
        if item.index == 5:
            raise MemoryError
        return read(item)

    dataset = TinyDataset()
    read, dataset.read = dataset.read, hungry
    run = score_work(tiny_work(tmp_path, dataset), hooks())
    assert store.failures(run)["index"].tolist() == [5] and run.progress().state == "done"


def test_views_follow_equation_4(tmp_path):
    run = score_work(tiny_work(tmp_path, views=3), hooks())
    plain = score_work(tiny_work(tmp_path), hooks())
    row, one = store.row(run, "dog/0005.png"), store.row(plain, "dog/0005.png")
    assert len(row["view_scores"]) == 3 and len(set(row["view_scores"])) == 3
    assert row["jepa_score"] == pytest.approx(views_score(torch.tensor(row["view_scores"])[None]).item())
    assert row["view_scores"][0] == pytest.approx(one["jepa_score"], rel=1e-6)  # view 0 is the image itself
    np.testing.assert_allclose(row["singular_values"], one["singular_values"], rtol=1e-5)


def test_views_are_decided_by_seed_key_and_number():
    image = TinyDataset().read(Item(0, "a"))
    views = [
        draw_view(image, seed=s, key=k, view=v) for s, k, v in [(0, "a", 1), (0, "a", 1), (1, "a", 1), (0, "b", 1)]
    ]
    bytes_ = [jpeg(view) for view in views]
    assert bytes_[0] == bytes_[1] and len(set(bytes_)) == 3
    assert draw_view(image, seed=0, key="a", view=0) is image


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_a_view_lies_within_the_image(width, height, view):
    drawn = draw_view(Image.new("RGB", (width, height)), seed=3, key="k", view=view)
    assert 1 <= drawn.width <= width and 1 <= drawn.height <= height
    assert drawn.width * drawn.height >= 0.6 * width * height - max(width, height)  # up to rounding


def test_float64_is_scored_in_float64(tmp_path):
    run = score_work(tiny_work(tmp_path, precision="float64"), hooks())
    image = tiny_transform(TinyDataset().read(Item(4, ""))).unsqueeze(0).double()
    exact = jepa_score(jacobian_summary(tiny_encoder().double(), image).singular_values).item()
    assert store.row(run, "cat/0004.png")["jepa_score"] == pytest.approx(exact, abs=1e-12)
    assert run.meta["precision"] == "float64"


def test_reading_ahead_keeps_the_order_and_is_bounded():
    begun, consumed, widest = [], 0, 0

    def read(item):
        begun.append(item.index)
        time.sleep(0.001 * (item.index % 3))
        return Loaded(item)

    items = [Item(i, str(i)) for i in range(50)]
    got = []
    for batch in read_ahead(items, read, batch_size=4, workers=3, stop=threading.Event()):
        widest = max(widest, len(begun) - consumed)
        consumed += len(batch)
        got += [loaded.item.index for loaded in batch]
    assert got == list(range(50)) and widest <= 2 * 4 + 3


def test_readers_start_no_threads_of_their_own_and_leave_the_scoring_its():
    """More OpenMP threads than cores in a process make every product of the scoring wait for threads to wake up."""
    before = torch.get_num_threads()

    def read(item):
        return Loaded(item, error=str(torch.get_num_threads()))

    items = [Item(i, str(i)) for i in range(8)]
    torch.set_num_threads(2)  # each new thread would take two
    try:
        batches = list(read_ahead(items, read, batch_size=4, workers=2, stop=threading.Event()))
        assert {loaded.error for batch in batches for loaded in batch} == {"1"}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_decoding_overlaps_with_scoring():
    def read(item):
        time.sleep(0.02)
        return Loaded(item)

    def score(batch):
        time.sleep(0.08)
        return [{"error": None} for _ in batch]

    reports = []
    items = [Item(i, str(i)) for i in range(40)]
    run_scoring(
        items, read=read, score=score, write=lambda rows: None, report=lambda *r: reports.append((*r[:2], dict(r[2]))),
        batch_size=4, stop=threading.Event(),
    )  # fmt: skip
    seconds = reports[-1][2]
    assert sum(report[0] for report in reports) == 40
    assert seconds["read_s"] < 0.5 * seconds["score_s"]  # one after the other, reading would take as long


def test_a_full_disk_is_one_sentence_and_keeps_what_is_whole(tmp_path, monkeypatch):
    real = part_writer.write_part

    def full(folder, number, rows):
        if number > 1:
            raise OSError(28, "No space left on device")
        return real(folder, number, rows)

    monkeypatch.setattr(part_writer, "write_part", full)
    monkeypatch.setattr(part_writer, "_PART_ROWS", 8)
    with pytest.raises(RunError, match=r"^Cannot write in .* \(No space left on device\); .* can be resumed\.$"):
        score_work(tiny_work(tmp_path), hooks())
    (run,) = store.list_runs(tmp_path)
    assert run.progress().state == "failed" and run.progress().done + run.progress().failed == 8
    monkeypatch.setattr(part_writer, "write_part", real)
    assert score_work(tiny_work(tmp_path), hooks()).progress().done == 23


def test_a_file_size_limit_stops_the_run_cleanly(tmp_path):
    """A real failure of the system's write, where no disk can be filled."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
        with pytest.raises(RunError, match="Cannot write in"):
            score_work(tiny_work(tmp_path), hooks())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    (run,) = store.list_runs(tmp_path)
    assert run.problem is None and run.warning is None and run.progress().state == "failed"
    assert not list(run.path.glob(".part*"))


def test_the_first_part_comes_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(part_writer, "_FIRST_FLUSH_S", 0.2)
    work = tiny_work(tmp_path, TinyDataset(30, delay_s=0.05))
    thread = threading.Thread(target=score_work, args=(work, hooks()))
    thread.start()
    try:
        while thread.is_alive() and not list(tmp_path.glob("*/part-*.parquet")):
            time.sleep(0.01)
        assert thread.is_alive()
        (run,) = store.list_runs(tmp_path)
        assert run.progress().state == "running" and 0 < store.counts(run)["done"] < 30
    finally:
        thread.join()
    assert len(parts.part_files(run.path)) == 2


def test_the_next_run_waits_for_the_device_and_says_so(tmp_path):
    stages, seen = [], []
    with hold(device_lock("cpu"), holder="another-run", waiting=lambda words: None):
        thread = threading.Thread(
            target=score_work, args=(tiny_work(tmp_path), hooks(on_stage=stages.append, on_progress=seen.append))
        )
        thread.start()
        while not stages:
            time.sleep(0.01)
        (run,) = store.list_runs(tmp_path)
        assert run.progress().state == "waiting" and "busy with another-run" in run.progress().message
    thread.join()
    assert stages == ["waiting", "scoring"] and run.progress().state == "done"


def test_waiting_can_be_cancelled(tmp_path):
    stop = threading.Event()
    with hold(device_lock("cpu"), waiting=lambda words: None):
        run = score_work(tiny_work(tmp_path), hooks(stop=stop, on_stage=lambda stage: stop.set()))
    assert run.progress().state == "cancelled"


def test_a_read_only_folder_is_one_sentence(tmp_path):
    if os.geteuid() == 0:
        (tmp_path / "runs").write_text("a file, not a folder")  # root writes anywhere
        match = "Cannot"
    else:
        (tmp_path / "runs").mkdir(mode=0o500)
        match = "Cannot write"
    with pytest.raises(RunError, match=match):
        score_work(tiny_work(tmp_path / "runs"), hooks())


def test_two_images_with_one_key_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="key 'same'"):
        score_work(tiny_work(tmp_path, TinyDataset(2, keys=["same", "same"])), hooks())


def test_hostile_keys_and_class_names_survive(tmp_path):
    keys = ["'; DROP TABLE rows; --", "a\nb", "=cmd|' /C calc'!A0", "\udcff.png", "<script>", "𝄞 ü", "tab\t", "nul\0"]
    dataset = TinyDataset(8, keys=keys, class_names=("' OR 1=1 --", "<img src=x>"))
    run = score_work(tiny_work(tmp_path, dataset), hooks())
    assert store.counts(run)["done"] == 8
    stored = {row["key"] for row in rows_of(run).to_dict("records")}
    assert stored == (set(keys) - {"\udcff.png"}) | {"\\udcff.png"}
    for key in stored:
        assert store.row(run, key)["key"] == key
    assert len(store.scores(run, classes=["' OR 1=1 --"])) == 4
    again = score_work(tiny_work(tmp_path, dataset), hooks())
    assert len(rows_of(again)) == 8


def test_signals_become_an_event():
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(2)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(2)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def drowned_in_signals():
    """Wait for the event, again and again, while signals interrupt the waiting and each other."""
    with stop_on_signals() as stop:
        sender = "import os, sys\nfor _ in range(300_000): os.kill(int(sys.argv[1]), 15)"
        storm = subprocess.Popen([sys.executable, "-S", "-c", sender, str(os.getpid())])
        while storm.poll() is None:
            stop.wait(1e-4)
            stop.set()
            stop.clear()
        os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(0 if stop.wait(5) else 1)


def test_no_signal_waits_for_another():
    """A handler must not take a lock: the code that it interrupts may hold it, and the process would hang for ever."""
    child = context.Process(target=drowned_in_signals)
    child.start()
    child.join(30)
    hangs = child.is_alive()
    child.kill()
    assert not hangs and child.exitcode == 0


def test_batch_size_follows_the_size_of_the_jacobian():
    encoder, cpu, gpu = tiny_encoder(), torch.device("cpu"), torch.device("cuda")
    assert default_batch_size(encoder, cpu) == 16
    encoder.spec = dataclasses.replace(encoder.spec, embedding_dim=384, input_size=(3, 224, 224))
    assert default_batch_size(encoder, cpu) == 2 and default_batch_size(encoder, gpu) > 16
    encoder.spec = dataclasses.replace(encoder.spec, embedding_dim=1280)
    assert default_batch_size(encoder, cpu) == 1 and default_batch_size(encoder, cpu, views=8) == 1


@given(st.lists(st.text(min_size=1), min_size=1))
def test_class_names_survive_the_command_line(classes):
    assert split_classes(format_classes(classes)) == tuple(classes)


@given(
    st.builds(
        RunRequest, st.text(), st.text(), st.none() | st.integers(), classes=st.none() | st.lists(st.text()).map(tuple),
        views=st.integers(), pretrained=st.booleans(),
    )
)  # fmt: skip
def test_a_request_survives_json(request_):
    assert RunRequest.from_json(json.loads(json.dumps(request_.to_json()))) == request_


@pytest.mark.parametrize("options", [{"views": 0}, {"batch_size": -1}, {"precision": "int8"}, {"limit": 0}])
def test_impossible_requests_are_refused(options):
    with pytest.raises(RunError):
        RunRequest("a", "b", **options).check()


def test_run_json_says_what_decides_the_numbers(tmp_path):
    meta = score_work(tiny_work(tmp_path, per_class=4, classes=("cat",)), hooks()).meta
    assert (
        meta["encoder"] | {"digest": "d1", "embedding_dim": D, "null_dim": 0, "input_size": [3, SIDE, SIDE]}
        == meta["encoder"]
    )
    assert meta["sample"] == {"per_class": 4, "limit": None, "seed": 0, "classes": ["cat"]}
    assert meta["planned"] == 4 and meta["dataset"]["size"] == 24 and meta["eps"] == 1e-6
    assert meta["jacobian_path"] == "convnet"
    assert meta["versions"]["torch"] and meta["device"] == "cpu" and meta["batch_size"] == 4


def test_a_folder_is_the_same_from_everywhere(tmp_path, monkeypatch):
    names = set()
    monkeypatch.chdir(tmp_path)
    for path in ("data/x", f"{tmp_path}/data/x", "data/../data/x/"):
        dataset = TinyDataset(4)
        dataset.id = f"folder:{path}"
        run = score_work(tiny_work(tmp_path, dataset), hooks())
        names.add(run.name)
        assert run.request().dataset_id == f"folder:{tmp_path}/data/x" and run.label == "tiny · x"
    assert len(names) == 1
    assert run.meta["dataset"]["id"] == "folder:data/x"  # as it was given


def test_a_folder_deleted_under_a_run_is_one_sentence(tmp_path):
    removed = []

    def remove(progress):
        if progress.done >= 4 and not removed:
            removed.extend(tmp_path.glob("tiny-*"))
            shutil.rmtree(removed[0])

    with pytest.raises(RunError, match=r"^The run's folder .* is gone: somebody moved or deleted it; the same request"):
        score_work(tiny_work(tmp_path), hooks(on_progress=remove))
    assert removed and not removed[0].exists() and store.list_runs(tmp_path) == []


def test_score_dataset_scores_the_real_demo(tmp_path):
    stages = []
    request = RunRequest("demo:jepa-tiny", "demo:digits", limit=5, device="cpu")
    run = score_dataset(request, runs_dir=tmp_path, on_stage=stages.append)
    assert stages == ["loading encoder", "listing dataset", "scoring"]
    assert store.counts(run) == {"planned": 5, "done": 5, "failed": 0} and run.label == "jepa-tiny · digits"
    assert store.spectra(run)[1].shape == (5, run.meta["encoder"]["embedding_dim"])
    assert max(Image.open(io.BytesIO(store.extremes(run, 1)["thumbnail"][0])).size) <= 160
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        score_dataset(request, runs_dir=tmp_path, stop=stop, on_stage=stages.append)
    assert stages[-1] == "cancelled"


def test_devices_are_named_as_the_machine_has_them():
    assert resolve_device("cpu") == resolve_device("cpu:0") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name, why in (("mps", "float64"), ("cuda:99", "no device 'cuda:99'"), ("toaster", "no device 'toaster'")):
        with pytest.raises(RunError, match=why):
            resolve_device(name)
