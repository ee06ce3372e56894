"""Runs on a real Ray cluster of two nodes: a worker, a node or the driver is killed; rows stay those of a local run."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-cluster.txt")

from ray import cloudpickle

from jepascore_core import cluster as cluster_package
from jepascore_core import store
from jepascore_core.cluster import driver, rounds, worker
from jepascore_core.cluster.blocks import DEADLY, cut, read_block, write_blocks
from jepascore_core.cluster.connection import Room, connected, find_room
from jepascore_core.cluster.parcel import pack
from jepascore_core.cluster.worker import ToldTolerance, Worker
from jepascore_core.datasets import load_dataset
from jepascore_core.datasets.base import Item
from jepascore_core.errors import RunError
from jepascore_core.files import read_json
from jepascore_core.runner import Hooks, Left, score_dataset, score_work
from jepascore_core.runner.precision import LEAST_TOLERANCE, Tolerance
from jepascore_core.store.request import RunRequest
from jepascore_core.store.staging import make_staging, remove_staging
from tests import forked
from tests.children import assert_same_rows, rows_of, wait_for
from tests.ray_parts import N, SentDataset, main, score_local, score_ray, two_nodes, workers_at_work
from tests.tiny import tiny_work

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as running:
        yield running


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    home = tmp_path_factory.mktemp("unbroken")
    score_local(home)
    return rows_of(home)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def once_at(done: int, do: Callable[[], object]) -> Hooks:
    """Hooks that do something once, when so many images are scored."""
    begun = threading.Event()

    def look(progress: store.Progress) -> None:
        if progress.done >= done and not begun.is_set():
            begun.set()
            threading.Thread(target=do, daemon=True).start()

    return Hooks(threading.Event(), on_progress=look)


def nothing_is_left(home: Path, state: str = "done") -> None:
    (run,) = store.list_runs(home)
    assert run.progress().state == state
    assert not list(run.path.glob(".staged-*")) and not list(run.path.glob(".*.tmp"))


@pytest.mark.slow
def test_a_killed_worker_and_a_lost_node(home: Path, unbroken: pd.DataFrame, cluster: Any, monkeypatch):
    """Ray goes on where the local engine was cancelled; a worker is killed, then its whole node."""
    monkeypatch.setattr(rounds, "_PATIENCE_S", 2.0)
    monkeypatch.setattr(rounds, "_LOOK_S", 0.5)
    stop = threading.Event()
    score_local(home, hooks=Hooks(stop, on_progress=lambda progress: progress.done >= 8 and stop.set()))
    begun = len(rows_of(home))
    killed: list[int] = []

    def kill() -> None:
        (worker, *_) = workers_at_work(cluster.address)
        worker.kill()
        killed.append(worker.pid)
        time.sleep(0.3)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        killed.append(0)

    run = score_ray(home, 0.05, once_at(begun + 4, kill), address=cluster.address)
    wait_for(lambda: len(killed) == 2, "death of the node")
    assert 0 < begun < N and store.counts(run) == {"planned": N, "done": N - 2, "failed": 2}
    assert_same_rows(rows_of(home), unbroken)
    nothing_is_left(home)
    assert run.meta["request"]["engine"] == "local" and run.progress().stages["score_s"] > 0


@pytest.mark.slow
def test_a_killed_driver_is_followed_by_the_local_engine(home: Path, unbroken: pd.DataFrame, cluster: Any):
    asked = ("ray", str(home), "0.1", cluster.address, dict(os.environ))
    child = forked.context.Process(target=main, args=asked)
    child.start()
    wait_for(lambda: len(list(home.glob("*/part-*.parquet"))) >= 2, "part", 200)
    child.kill()
    child.join()
    (run,) = store.list_runs(home)
    assert run.progress().state == "interrupted" and list(run.path.glob(".staged-*"))
    assert 0 < len(rows_of(home)) < N
    score_local(home)  # at once: workers of the dead driver may still be writing
    assert_same_rows(rows_of(home), unbroken)
    wait_for(lambda: not workers_at_work(cluster.address), "end of the workers")
    assert_same_rows(rows_of(home), unbroken)
    nothing_is_left(home)


@pytest.mark.slow
def test_a_command_with_a_ray_of_its_own_is_cancelled_and_resumed(tmp_path: Path):
    words = ["--encoder=demo:jepa-tiny", "--dataset=demo:digits", "--device=cpu", "--limit=200", "--views=3"]
    command = ["jepascore_core", "score", *words, "--engine=ray", "--workers=1", f"--runs-dir={tmp_path}"]
    out, err = tmp_path / "out", tmp_path / "err"
    child = forked.context.Process(target=forked._command_line, args=(command, dict(os.environ), out, err))
    child.start()
    wait_for(lambda: list(tmp_path.glob("*/part-*.parquet")), "part", 200)
    child.terminate()
    child.join(60)
    (run,) = store.list_runs(tmp_path)
    assert child.exitcode == 1 and "Cancelled; what is scored is kept" in err.read_text() and out.read_text() == ""
    assert "Warning" not in err.read_text() and "core_worker" not in err.read_text()
    stored = store.counts(run)["done"]
    assert run.progress().state == "cancelled" and 0 < stored < 200 and not list(run.path.glob(".staged-*"))
    request = RunRequest("demo:jepa-tiny", "demo:digits", device="cpu", limit=200, views=3)
    assert store.counts(score_dataset(request, runs_dir=tmp_path)) == {"planned": 200, "done": 200, "failed": 0}


def test_blocks_hold_every_image_once(tmp_path: Path):
    placed = [(7 * i, Item(i, f"cat/\udcff{i}", -1, "")) for i in range(100)]
    sizes = cut(100, batch_size=4, workers=3)
    assert sum(sizes) == 100 and sizes[:3] == [4, 4, 4] and max(sizes) <= 16
    blocks = write_blocks(tmp_path / "blocks", placed, sizes)
    assert [row for block in blocks for row in read_block(tmp_path / "blocks", *block)] == placed
    assert cut(5, batch_size=4, workers=8, shrunk=9) == [1] * 5
    assert sum(cut(1_281_167, batch_size=37, workers=64)) == 1_281_167


def worker_of(home: Path, monkeypatch: pytest.MonkeyPatch, dataset: Any = None, **options: Any) -> tuple[Any, Path]:
    """A worker in this process, and where it stages its parts."""
    monkeypatch.setattr(worker.ray, "get", lambda parcel: parcel)
    work = tiny_work(home, dataset or SentDataset(n=8), **options)
    (home / "run").mkdir()
    staging = make_staging(home / "run")
    return replace(pack(work, work.dataset.items[:4], Room(torch.device("cpu"), 1, 1, 1), staging)), staging


def asked(staging: Path, placed: list[tuple[int, Item]]) -> dict[str, np.ndarray]:
    """One block, as Ray Data hands it to a worker."""
    ((offset, length),) = write_blocks(staging / "blocks0.jsonl", placed, [len(placed)])
    row = {"number": 5, "file": str(staging / "blocks0.jsonl"), "offset": offset, "length": length}
    return {name: np.array([value]) for name, value in row.items()}


def test_a_worker_stages_a_block_and_leaves_out_a_deadly_one(home: Path, monkeypatch: pytest.MonkeyPatch):
    parcel, staging = worker_of(home, monkeypatch)
    block = asked(staging, list(enumerate(SentDataset(n=8).items)))
    told = {name: values[0] for name, values in Worker([parcel])(block).items()}
    assert told["error"] == "" and not told["stopped"] and not told["deadly"] and told["score_s"] > 0
    (part,) = staging.glob("part-*.parquet")
    assert told["part"] == part.name and pq.read_table(part).num_rows == 8
    assert not list(staging.glob("blocks0.5.*"))
    for death in range(DEADLY):
        (staging / f"blocks0.5.{death}").touch()  # what workers leave that died on it
    told = {name: values[0] for name, values in Worker([parcel])(block).items()}
    assert told["deadly"] and told["part"] == "" and told["error"] == ""


def test_a_worker_stops_when_it_is_told_to_or_its_folder_goes(home: Path, monkeypatch: pytest.MonkeyPatch):
    parcel, staging = worker_of(home, monkeypatch)
    block = asked(staging, list(enumerate(SentDataset(n=8).items)))
    scorer = Worker([parcel])
    (staging / "stop").touch()
    told = {name: values[0] for name, values in scorer(block).items()}
    assert told["stopped"] and told["part"] == "" and told["error"] == ""
    remove_staging(staging.parent)  # the next holder of the run's lock does so
    assert not staging.exists()
    told = {name: values[0] for name, values in scorer(block).items()}
    assert "cannot write" in told["error"] and not list(staging.parent.iterdir())


def test_what_a_node_lacks_is_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch):
    parcel, staging = worker_of(home, monkeypatch)
    block = asked(staging, list(enumerate(SentDataset(n=8).items)))
    elsewhere = replace(parcel, staging=home / "nowhere")
    assert "must lie where all nodes can write" in Worker([elsewhere])(block)["error"][0]
    blind = replace(parcel, dataset=cloudpickle.dumps(SentDataset(n=8, bad=tuple(range(8)))))
    assert "images that the driver can read are out of reach" in Worker([blind])(block)["error"][0]
    other = replace(parcel, dataset=None, request=replace(parcel.request, dataset_id="demo:digits"))
    assert "has other images there" in Worker([other])(block)["error"][0]
    other = replace(parcel, encoder=None, request=replace(parcel.request, encoder_id="demo:jepa-tiny"))
    assert "has other weights there" in Worker([other])(block)["error"][0]


def test_an_image_on_which_workers_die_is_named(home: Path, unbroken: pd.DataFrame, monkeypatch: pytest.MonkeyPatch):
    """Rounds as they would go where image 40 kills whoever scores it, and a block is lost in the first round."""
    monkeypatch.setattr(driver, "Round", make_rounds(deadly=40, lost=2))
    monkeypatch.setattr(driver.ray, "put", lambda parcel: parcel)
    monkeypatch.setattr(worker.ray, "get", lambda parcel: parcel)
    hooks = Hooks(threading.Event())
    work = tiny_work(home, SentDataset(), engine="ray")
    run = score_work(work, hooks, partial(driver.score_with, Room(torch.device("cpu"), 2, 1, 1, "none")))
    assert store.counts(run) == {"planned": N, "done": N - 3, "failed": 3}
    rows = rows_of(home)
    assert rows["error"][40] == "Its worker died 3 times while it was scored."
    keep = rows["index"] != 40
    assert_same_rows(rows[keep].reset_index(drop=True), unbroken[keep].reset_index(drop=True))


def make_rounds(*, deadly: int, lost: int) -> type:
    """A ``Round`` without Ray: blocks are scored here, but one with a deadly image, and one of the first round."""

    class Here(driver.Round):
        def __init__(self, room: Room, parcel: Any, file: Path, blocks: list[tuple[int, int]]) -> None:
            self._asked = (Worker([parcel]), file, blocks)

        def results(self, stop: threading.Event, staging: Path) -> Iterator[dict[str, Any]]:
            score, file, blocks = self._asked
            for number, (offset, length) in enumerate(blocks):
                row = {"number": number, "file": str(file), "offset": offset, "length": length}
                block = {name: np.array([value]) for name, value in row.items()}
                if any(item.index == deadly for _, item in read_block(file, offset, length)):
                    for death in range(DEADLY):
                        file.with_name(f"{file.stem}.{number}.{death}").touch()
                if number != lost or "blocks0" not in file.name:
                    yield {name: values[0] for name, values in score(block).items()}
                    yield {name: values[0] for name, values in score(block).items()}  # repeated: it comes in once

        def close(self) -> None:
            pass

    return Here


def test_tolerances_are_told_when_all_first_images_are_behind(tmp_path: Path):
    work = tiny_work(tmp_path, SentDataset(n=300), precision="tf32")
    items = work.dataset.items
    tolerance = Tolerance(None, {item.key: place for place, item in enumerate(items)})
    spreads = driver.Spreads(Left(work, items, items, tolerance, tmp_path), tmp_path / "spreads.json")
    scores = {item.key: float(place * place) for place, item in enumerate(items)}
    spreads.learn({items[place].key: scores[items[place].key] for place in range(1, 200)}, list(range(1, 200)))
    assert not (tmp_path / "spreads.json").exists()  # the first image is still being scored
    spreads.learn({items[0].key: scores[items[0].key]}, [0])
    told = read_json(tmp_path / "spreads.json")
    exact = 0.005 * np.std([place**2 for place in range(128)], ddof=1)
    assert set(told) == {"64", "128"} and told["128"] == pytest.approx(exact)
    theirs = ToldTolerance(None, tolerance.positions, spreads={int(first): nats for first, nats in told.items()})
    assert theirs.of(items[299].key) == pytest.approx(exact) == tolerance.of(items[299].key)
    assert theirs.of(items[127].key) == LEAST_TOLERANCE
    assert ToldTolerance(None, tolerance.positions).of(items[299].key) == LEAST_TOLERANCE


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "NodeID": "x", "Resources": {name.upper(): count for name, count in resources.items()}}


def test_room_for_workers():
    gpus = [node(cpu=32, gpu=8), node(cpu=16, gpu=8), node(cpu=4), node(alive=False, cpu=64, gpu=8)]
    room = find_room(gpus, "auto", None, "auto")
    assert (room.device.type, room.workers, room.cpus, room.together) == ("cuda", 16, 2, 8) and room.locks() == []
    assert find_room(gpus, "auto", 3, None).workers == 3
    room = find_room([node(cpu=8), node(cpu=4), node(cpu=0)], "auto", None, None)
    assert (room.device.type, room.workers, room.cpus, room.together) == ("cpu", 2, 4, 1) and len(room.locks()) == 1
    assert find_room([node(cpu=8), node(cpu=4)], "cpu", 6, "auto").cpus == 1
    with pytest.raises(RunError, match="no GPU"):
        find_room([node(cpu=8)], "cuda", None, "auto")
    with pytest.raises(RunError, match="has 2 GPUs, too few for 3 workers"):
        find_room([node(cpu=8, gpu=2)], "auto", 3, None)
    with pytest.raises(RunError, match="no node with a CPU"):
        find_room([node(cpu=0)], "auto", None, "auto")


def test_what_cannot_be_asked_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = RunRequest("demo:jepa-tiny", "demo:photos")
    for wrong, words in (
        ({"engine": "spark"}, "must be one of local, ray"),
        ({"workers": 2}, "Only --engine ray"),
        ({"engine": "ray", "workers": 0}, "at least 1"),
        ({"engine": "ray", "address": "ray://head:10001"}, "auto or host:port"),
    ):
        with pytest.raises(RunError, match=words):
            replace(asked, **wrong).check()
    ray = replace(asked, engine="ray", address="auto", workers=2)
    ray.check()
    assert RunRequest.from_json(ray.to_json()) == ray and "--engine=ray" in ray.to_argv()
    for wrong in ({"workers": "2"}, {"workers": True}, {"address": 6379}, {"engine": None}):
        with pytest.raises(RunError, match="is not what it should be"):
            RunRequest.from_json(ray.to_json() | wrong)
    assert (
        store.Run(tmp_path, {"request": ray.to_json()}).request() == asked
    )  # a folder from elsewhere names no cluster
    with pytest.raises(RunError, match="deals out the GPUs itself"), connected(None, "cuda:1", None):
        pass
    for nowhere in ("127.0.0.1:1", "rubbish", "host:99999999"):
        with pytest.raises(RunError, match="nobody answers there"), connected(nowhere, "cpu", None):
            pass
    monkeypatch.setattr(cluster_package, "find_spec", lambda name: None)
    with pytest.raises(RunError, match="pip install -r requirements-cluster"):
        score_dataset(ray, runs_dir=tmp_path)


def test_a_dataset_is_sent_without_its_list(tmp_path: Path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    for name in (f"folder:{tmp_path}", f"corrupted:blur:2:folder:{tmp_path}", "demo:digits"):
        whole = load_dataset(name)
        sent = whole.for_reading()
        assert len(whole.items) >= 1 and (len(sent.items) == 0) == ("folder" in name)
        assert sent.read(whole.items[0]).tobytes() == whole.read(whole.items[0]).tobytes()
