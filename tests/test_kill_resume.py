"""A run that is killed at any instant ends, once resumed, with the rows of one that was not."""

import os
import random
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from jepascore_core import store
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import parts
from tests.children import BAD, Child, N, assert_same_rows, rows_of, wait_for
from tests.tiny import TinyDataset, tiny_work

KILLS = 10


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
