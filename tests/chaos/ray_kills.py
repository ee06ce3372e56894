"""Runs on a Ray cluster of two nodes in which the driver, a worker or a node dies at a random instant.

Then the run is resumed, by Ray or by the local engine, where it was the driver; the rows must be those of a local run.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from jepascore_core import store
from jepascore_core.cluster import has_ray
from tests.chaos.outcome import Outcome
from tests.children import assert_same_rows, rows_of
from tests.ray_parts import BAD, N, score_local, two_nodes, workers_at_work

ROOT = Path(__file__).parent.parent.parent
_DELAY_S = 0.04  # of each image's reading: a run takes a few seconds
_LONGEST_S = 3.0  # from the first part on, or from the start of the driver, to the kill
_TIMEOUT_S = 240.0
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def campaign(trials: int, seed: int, work: Path) -> list[Outcome]:
    """Kill at random.

    Args:
        trials: How many.
        seed: Of the dice; instants also depend on the machine.
        work: Folder for the runs.

    Returns:
        An outcome for each trial; none where Ray is not installed.
    """
    if not has_ray():
        return []
    dice = random.Random(seed)
    (work / "unbroken").mkdir(parents=True)
    os.environ["JEPASCORE_HOME"] = str(work / "home")
    score_local(work / "unbroken")
    unbroken = rows_of(work / "unbroken")
    with two_nodes() as cluster:
        return [_trial(dice, cluster, work / f"trial{number}", unbroken) for number in range(trials)]


def _trial(dice: random.Random, cluster: Any, home: Path, unbroken: pd.DataFrame) -> Outcome:
    """One run with one death."""
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1)
    home.mkdir()
    victim = dice.choice(("driver", "worker", "node"))
    number = signal.SIGKILL if victim == "node" else dice.choice(_SIGNALS)
    early = victim == "driver" and dice.random() < 0.3
    resumed = dice.choice(("ray", "local"))
    words = f"{number.name} of a {victim} of a Ray run" + (f", resumed by {resumed}" if victim == "driver" else "")
    began = time.monotonic()
    child = _start("ray", home, cluster.address)
    try:
        if not early:
            _wait(lambda: bool(list(home.glob("*/part-*.parquet"))) or child.poll() is not None)
        time.sleep(dice.uniform(0, 2 * _LONGEST_S if early else _LONGEST_S))
        _kill(victim, number, child, cluster, dice)
        child.wait(_TIMEOUT_S)
        if victim == "driver":
            if list(home.glob("*/run.json")):
                _look(home, unbroken)
            child = _start(resumed, home, cluster.address)
            child.wait(_TIMEOUT_S)
        said = child.stdout.read() if child.stdout else ""
        if child.returncode or not said.strip().endswith("done"):
            return Outcome("kills", words, False, f"The run ended with {child.returncode}: {said[-300:]}")
        _compare(home, unbroken)
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        return Outcome("kills", words, False, f"{type(error).__name__}: {error}"[:300], time.monotonic() - began)
    finally:
        child.kill()
        child.wait()
    return Outcome("kills", words, True, "", time.monotonic() - began)


def _start(engine: str, home: Path, address: str) -> subprocess.Popen[str]:
    """A driver of its own."""
    words = [sys.executable, "-m", "tests.ray_parts", engine, str(home), str(_DELAY_S), address]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _kill(victim: str, number: signal.Signals, child: subprocess.Popen[str], cluster: Any, dice: random.Random) -> None:
    """Kill whom the dice chose."""
    if victim == "driver":
        child.send_signal(number)
    elif victim == "node":
        cluster.remove_node(dice.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
    elif workers := workers_at_work(cluster.address):
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(workers).pid, number)


def _look(home: Path, unbroken: pd.DataFrame) -> None:
    """What is there after a death must be whole, and none of it twice."""
    (run,) = store.list_runs(home)
    if list(run.path.glob("part-*.parquet")):
        rows = rows_of(home)
        assert_same_rows(rows, unbroken[unbroken["key"].isin(rows["key"])].reset_index(drop=True))


def _compare(home: Path, unbroken: pd.DataFrame) -> None:
    """What is there in the end must be what a local run gives."""
    (run,) = store.list_runs(home)
    assert store.counts(run) == {"planned": N, "done": N - len(BAD), "failed": len(BAD)}, store.counts(run)
    assert_same_rows(rows_of(home), unbroken)
    assert not list(run.path.glob(".staged-*")), "a staging folder is left"


def _wait(condition: Any) -> None:
    """Wait until something is so."""
    end = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, "nothing was scored in time"
        time.sleep(0.02)


if __name__ == "__main__":  # python -m tests.chaos.ray_kills TRIALS SEED FOLDER
    for one in campaign(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])):
        print(one)
