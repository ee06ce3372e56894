"""A dataset that changes while it is read: a sentence or an error row, never two states in one run without a word."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from jepascore_core import store
from jepascore_core.__main__ import app
from jepascore_core.datasets import load_dataset
from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.errors import DatasetGone, ImageError
from jepascore_core.files import read_json, write_json
from jepascore_core.runner import Hooks, score_dataset, score_work
from jepascore_core.store.request import RunRequest
from jepascore_core.store.verifying import verify
from tests.tiny import tiny_work

N = 12


def paint(path: Path, seed: int, side: int = 9) -> None:
    """A bitmap: as many bytes whatever it shows."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)).save(path, "BMP")


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for number in range(N):
        paint(folder / "a" / f"{number:02d}.bmp", number)
        os.utime(folder / "a" / f"{number:02d}.bmp", (1e9, 1e9))
    return folder


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def score(home: Path, dataset: Dataset, stop: threading.Event | None = None) -> store.Run:
    return score_work(tiny_work(home, dataset), Hooks(stop or threading.Event()))


def changed_at(dataset: Dataset, change: Callable[[], None], reads: int = 6) -> Dataset:
    """The dataset, and something that happens to its files just before an image is read."""
    read, lock, seen = dataset.read, threading.Lock(), []

    def reading(item: Item) -> Image.Image:
        with lock:
            seen.append(item)
            if len(seen) == reads:
                change()
            return read(item)

    dataset.read = reading  # type: ignore[method-assign]
    return dataset


def failures(run: store.Run) -> dict[str, str]:
    frame = store.failures(run)
    return dict(zip(frame["key"], frame["error"], strict=True))


def test_a_file_that_vanishes_is_an_error_row(home, photos):
    run = score(home, changed_at(load_dataset(f"folder:{photos}"), (photos / "a" / "11.bmp").unlink, reads=1))
    assert run.progress().state == "done" and failures(run) == {"a/11.bmp": "The file is gone."}
    assert store.counts(run)["done"] == N - 1 and verify(run.path).sound


def test_a_file_that_is_replaced_is_an_error_row(home, photos):
    dataset = load_dataset(f"folder:{photos}")
    paint(photos / "a" / "03.bmp", 77, side=10)
    run = score(home, dataset)
    assert list(failures(run)) == ["a/03.bmp"]
    assert "has changed since the images were listed: 306 bytes then, 374 now" in failures(run)["a/03.bmp"]
    assert run.warning is None


def test_a_file_that_is_still_being_copied_is_an_error_row(home, photos):
    path = photos / "a" / "05.bmp"
    data = path.read_bytes()
    path.write_bytes(data[:200])
    dataset = load_dataset(f"folder:{photos}")
    path.write_bytes(data)
    assert list(failures(score(home, dataset))) == ["a/05.bmp"]


def test_a_file_that_appears_waits_for_the_next_run(home, photos):
    def appear() -> None:
        paint(photos / "a" / "99.bmp", 99)

    first = score(home, changed_at(load_dataset(f"folder:{photos}"), appear))
    assert store.counts(first) == {"planned": N, "done": N, "failed": 0} and first.warning is None
    told = []
    hooks = Hooks(threading.Event(), on_progress=lambda progress: told.append(progress.message))
    second = score_work(tiny_work(home, load_dataset(f"folder:{photos}")), hooks)
    assert second.name != first.name and store.counts(second)["done"] == N + 1
    assert any(f"changed since {first.name}" in words for words in told)  # while it goes on
    assert second.progress().message == ""
    (note,) = verify(second.path).notes
    assert f"changed since {first.name}" in note and verify(first.path).notes == ()


def test_a_run_whose_dataset_changes_before_it_is_resumed(home, photos, tmp_path):
    """The rows of the earlier state stay by themselves; the new run says whose they are."""
    stop = threading.Event()
    first = score(home, changed_at(load_dataset(f"folder:{photos}"), stop.set), stop)
    assert first.progress().state == "cancelled"
    rows = len(store.scores(first))
    (photos / "a" / "00.bmp").unlink()
    second = score(home, load_dataset(f"folder:{photos}"))
    assert second.meta["dataset"]["earlier"] == [first.name] and store.counts(second)["done"] == N - 1
    assert len(store.scores(first)) == rows
    paint(photos / "a" / "00.bmp", 0)
    third = score(home, load_dataset(f"folder:{photos}"))  # back as it was: the first run, resumed
    assert third.name == first.name and store.counts(third)["done"] == N


def test_as_many_bytes_are_told_by_their_time(home, photos):
    """No fingerprint tells: the run says that its rows may be of two states."""
    dataset = changed_at(load_dataset(f"folder:{photos}"), lambda: paint(photos / "a" / "11.bmp", 77), reads=1)
    begun_before(home, dataset)
    run = score(home, dataset)
    assert store.counts(run)["done"] == N
    assert run.warning == (
        "1 image was written anew while the run read them, so that its rows may be of different states of the dataset."
    )
    assert verify(run.path).notes == (run.warning,)


def begun_before(home: Path, dataset: Dataset) -> None:
    """Begin a run, as a process that was killed did an hour ago."""
    stop = threading.Event()
    stop.set()
    run = score_work(tiny_work(home, dataset), Hooks(stop))
    past = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 3600))
    write_json(run.path / "run.json", {**read_json(run.path / "run.json"), "created": past})


def test_as_many_bytes_before_a_resume(home, photos):
    begun_before(home, load_dataset(f"folder:{photos}"))
    for number in (2, 3):
        paint(photos / "a" / f"{number:02d}.bmp", 100 + number)
    run = score(home, load_dataset(f"corrupted:noise:1:folder:{photos}"))  # another run: nothing to tell
    assert run.warning is None
    run = score(home, load_dataset(f"folder:{photos}"))
    assert run.meta["dataset"]["rewritten"] == 2 and "2 images were written anew" in run.warning
    assert score(home, load_dataset(f"folder:{photos}")).meta["dataset"]["rewritten"] == 2  # nothing was read again


def test_a_file_from_the_future_is_no_change(home, photos):
    os.utime(photos / "a" / "04.bmp", (4e9, 4e9))
    assert score(home, load_dataset(f"folder:{photos}")).warning is None


def test_a_folder_that_is_taken_away_ends_the_run_and_no_image_is_blamed(home, photos, tmp_path):
    away = tmp_path / "away"
    dataset = changed_at(load_dataset(f"folder:{photos}"), lambda: photos.rename(away))
    with pytest.raises(DatasetGone, match="cannot be reached any more; what is scored is kept"):
        score(home, dataset)
    (run,) = store.list_runs(home)
    assert run.progress().state == "failed" and failures(run) == {}
    away.rename(photos)
    again = score(home, load_dataset(f"folder:{photos}"))
    assert again.name == run.name and store.counts(again) == {"planned": N, "done": N, "failed": 0}


def test_an_empty_mount_point_is_a_folder_that_was_taken_away(home, photos):
    def unmount() -> None:
        shutil.rmtree(photos)
        photos.mkdir()

    with pytest.raises(DatasetGone):
        score(home, changed_at(load_dataset(f"folder:{photos}"), unmount))


def table(path: Path, seed: int, n: int = N, level: str = "none") -> None:
    cells = []
    for number in range(n):
        paint(path.with_suffix(".bmp"), seed + number)
        cells.append(path.with_suffix(".bmp").read_bytes())
    path.with_suffix(".bmp").unlink()
    columns = {"image": pa.array(cells, pa.binary()), "label": [0] * n}
    pq.write_table(pa.table(columns), path, row_group_size=3, compression=level)


@pytest.mark.parametrize("same_size", [True, False])
def test_a_parquet_file_that_is_replaced_ends_the_run(home, tmp_path, same_size):
    """Its footer is known from before: rows of another file must not pass for its own."""
    path = tmp_path / "t.parquet"
    table(path, 0)
    size = path.stat().st_size

    def replace() -> None:
        time.sleep(0.02)  # the clock of a file system ticks in hundredths of a second
        table(tmp_path / "new", 500, N if same_size else N + 3)
        (tmp_path / "new").replace(path)

    with pytest.raises(DatasetGone, match="was written anew after its rows were listed"):
        score(home, changed_at(load_dataset(f"parquet:{path}"), replace, reads=4))
    assert (path.stat().st_size == size) == same_size
    (run,) = store.list_runs(home)
    assert failures(run) == {}
    again = score(home, load_dataset(f"parquet:{path}"))
    assert store.counts(again)["failed"] == 0
    if same_size:  # the same fingerprint, hence the same run
        assert again.name == run.name and "written anew" in again.warning
    else:
        assert again.warning is None and again.name != run.name and again.meta["dataset"]["earlier"] == [run.name]


def test_a_parquet_file_of_as_many_bytes_before_a_resume(home, tmp_path):
    path = tmp_path / "t.parquet"
    table(path, 0)
    begun_before(home, load_dataset(f"parquet:{path}"))
    table(path, 500)
    run = score(home, load_dataset(f"parquet:{path}"))
    assert run.meta["dataset"]["rewritten"] == N and f"{N} images were written anew" in run.warning


def test_a_parquet_file_that_is_taken_away_ends_the_run(home, tmp_path):
    path = tmp_path / "t.parquet"
    table(path, 0)
    with pytest.raises(DatasetGone, match="cannot be reached any more"):
        score(home, changed_at(load_dataset(f"parquet:{path}"), path.unlink, reads=4))


def test_pickled_datasets_still_compare(photos):
    import pickle

    dataset = pickle.loads(pickle.dumps(load_dataset(f"folder:{photos}")))
    paint(photos / "a" / "00.bmp", 5, side=10)
    with pytest.raises(ImageError, match="has changed"):
        dataset.read(dataset.items[0])
    dataset.read(dataset.items[1])


def test_the_command_says_it(photos, tmp_path):
    run = score_dataset(RunRequest("demo:jepa-tiny", f"folder:{photos}", device="cpu"), runs_dir=tmp_path / "r")
    paint(photos / "a" / "zz.bmp", 99)
    arguments = ["score", "--encoder", "demo:jepa-tiny", "--dataset", str(photos), "--runs-dir", str(tmp_path / "r")]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0 and f"The dataset has changed since {run.name}" in result.stderr
    assert "The dataset has changed" not in result.stdout
    shown = CliRunner().invoke(app, ["show", result.stdout.strip().split("\n")[-1]])
    assert f"The dataset has changed since {run.name}" in shown.stdout
