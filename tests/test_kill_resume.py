"""A run that is killed at any instant ends, once resumed, with the rows of one that was not."""

import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from jepascore_core import store
from jepascore_core.processes import stop_on_signals
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import part_writer, parts
from tests.forked import context
from tests.tiny import TinyDataset, tiny_work

N, BAD, DELAY_S = 40, (7, 31), 0.03
KILLS = 10


class Child:
    """A process that scores; it tells its stages and, at the end, the run's state.

    Args:
        home: Where runs lie.
        die_in_part: Kill itself when this part is half written.
    """

    def __init__(self, home: Path, die_in_part: int | None = None) -> None:
        self._heard, said = context.Pipe(duplex=False)
        self.process = context.Process(target=child, args=(home, said, dict(os.environ), die_in_part))
        self.process.start()
        said.close()

    def hear(self) -> str:
        """The next thing that it says; "" once it has ended."""
        try:
            assert self._heard.poll(60), "the child is silent"
            return self._heard.recv()
        except EOFError:
            return ""

    def ended(self) -> list[str]:
        """Everything that it says until it ends."""
        said = list(iter(self.hear, ""))
        self.process.join(60)
        return said

    def kill(self) -> int:
        self.process.kill()
        self.process.join(60)
        return self.process.exitcode


def child(home: Path, said, environment: dict[str, str], die_in_part: int | None) -> None:
    """Score; runs in the other process."""
    os.environ.update(environment)  # the server was started by an earlier test
    part_writer._FIRST_FLUSH_S = part_writer._FLUSH_S = 0.05  # many parts, so that many kills fall into a write
    if die_in_part is not None:
        write = part_writer.pq.write_table

        def half(table, path, **options):
            write(table, path, **options)
            if len(parts.part_files(path.parent)) == die_in_part:
                path.write_bytes(path.read_bytes()[:500])
                os.kill(os.getpid(), signal.SIGKILL)

        part_writer.pq.write_table = half
    dataset = TinyDataset(N, bad=BAD, delay_s=DELAY_S)
    with stop_on_signals() as stop:
        run = score_work(tiny_work(home, dataset), Hooks(stop, on_stage=said.send))
    said.send(run.progress().state)


def wait_for(condition, what: str, seconds: float = 60.0):
    """What a condition gives once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"no {what} within {seconds} s")


def rows_of(home: Path) -> pd.DataFrame:
    """All rows; fails if any part is not whole or any row is there twice."""
    (run,) = store.list_runs(home)
    assert parts.damaged_parts(run.path) == {}
    rows = pd.concat([pq.ParquetFile(path).read().to_pandas() for path in parts.part_files(run.path)])
    assert rows["key"].is_unique
    return rows.sort_values("index", ignore_index=True)


def assert_same_rows(rows: pd.DataFrame, unbroken: pd.DataFrame) -> None:
    exact = ["index", "key", "label", "class_name", "width", "height", "thumbnail", "error"]
    pd.testing.assert_frame_equal(rows[exact], unbroken[exact])
    for name in ("jepa_score", "sphere_term", "singular_values", "embedding"):
        for a, b in zip(rows[name].dropna(), unbroken[name].dropna(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.fixture
def unbroken(tmp_path) -> pd.DataFrame:
    home = tmp_path / "unbroken"
    home.mkdir()
    score_work(tiny_work(home, TinyDataset(N, bad=BAD)), Hooks(threading.Event()))
    return rows_of(home)


@pytest.fixture
def home(tmp_path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.mark.slow
def test_killed_at_random_instants_and_resumed(home, unbroken):
    dice = random.Random(time.time_ns())
    seen, killed = 0, 0
    for _ in range(KILLS):
        process = Child(home)
        process.hear()  # it is scoring, or has found nothing left
        time.sleep(dice.uniform(0, 0.1))
        killed += process.kill() == -signal.SIGKILL
        (run,) = store.list_runs(home)
        assert run.problem is None
        progress = run.progress()
        assert progress.state == ("done" if progress.done + progress.failed == N else "interrupted")
        if parts.part_files(run.path):
            stored = rows_of(home)
            assert len(stored) >= seen  # what was stored stays
            assert progress.done + progress.failed == len(stored)
            seen = len(stored)
    assert killed >= 8
    assert Child(home).ended()[-1] == "done"
    assert_same_rows(rows_of(home), unbroken)
    (run,) = store.list_runs(home)
    assert store.counts(run) == {"planned": N, "done": N - 2, "failed": 2}
    assert not list(run.path.glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 2])
def test_killed_in_the_middle_of_writing_a_part(home, unbroken, part):
    """The instant that matters most, made certain: half a part is on the disk."""
    process = Child(home, die_in_part=part)
    assert process.ended() == ["scoring"] and process.process.exitcode == -signal.SIGKILL
    (run,) = store.list_runs(home)
    assert len(list(run.path.glob(".part-*.tmp"))) == 1 and len(parts.part_files(run.path)) == part
    assert run.progress().state == "interrupted" and store.counts(run)["done"] < N
    assert Child(home).ended()[-1] == "done"
    assert_same_rows(rows_of(home), unbroken)
    assert not list(run.path.glob(".part-*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_flushes_and_ends_cleanly(home, unbroken, number):
    process = Child(home)
    assert process.hear() == "scoring"
    wait_for(lambda: list(home.glob("*/part-*.parquet")), "part")
    os.kill(process.process.pid, number)
    assert process.ended() == ["cancelled"] and process.process.exitcode == 0
    (run,) = store.list_runs(home)
    progress = run.progress()
    assert progress.state == "cancelled" and 0 < progress.done < N
    assert progress.done + progress.failed == len(rows_of(home))
    assert Child(home).ended() == ["scoring", "done"]
    assert_same_rows(rows_of(home), unbroken)


@pytest.mark.slow
def test_two_processes_on_one_run(home, unbroken):
    first = Child(home)
    assert first.hear() == "scoring"
    second = Child(home)
    assert second.hear() == "waiting"  # it says so
    (run,) = store.list_runs(home)
    assert run.progress().pid == first.process.pid  # and leaves the first one's progress alone
    assert [first.ended(), second.ended()] == [["done"], ["done"]]  # the second had nothing left to score
    assert_same_rows(rows_of(home), unbroken)


@pytest.mark.slow
def test_the_second_process_takes_over_when_the_first_is_killed(home, unbroken):
    first = Child(home)
    assert first.hear() == "scoring"
    second = Child(home)
    assert second.hear() == "waiting"
    first.kill()
    assert second.ended() == ["scoring", "done"]  # the system freed the locks
    assert_same_rows(rows_of(home), unbroken)


@pytest.mark.slow
def test_two_runs_take_turns_on_one_device(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    first = Child(home)
    assert first.hear() == "scoring"
    second = Child(other)
    assert second.hear() == "waiting"
    (run,) = store.list_runs(other)
    wait_for(lambda: run.progress().state == "waiting" and "cpu" in run.progress().message, "word of the waiting")
    assert first.ended() == ["done"] and second.ended() == ["scoring", "done"]
