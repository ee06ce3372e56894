"""Processes that score and may be killed, and what their runs must hold afterwards."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from jepascore_core import store
from jepascore_core.processes import stop_on_signals
from jepascore_core.runner import Hooks, score_work
from jepascore_core.store import part_writer, parts
from tests.forked import context, print_to
from tests.tiny import TinyDataset, tiny_work

N, BAD, DELAY_S = 40, (7, 31), 0.03


class Child:
    """A process that scores; it tells its stages and, at the end, the run's state.

    Args:
        home: Where runs lie.
        die_in_part: Kill itself when this part is half written.
        options: ``n`` and ``delay_s`` of the dataset; ``pause_s``, how long it rests, having said so, when a part is
            half written and when the last image is scored (None says nothing); ``log`` takes what it prints;
            others are those of ``tiny_work``.
    """

    def __init__(self, home: Path, die_in_part: int | None = None, **options: Any) -> None:
        self._heard, said = context.Pipe(duplex=False)
        self.process = context.Process(target=child, args=(home, said, dict(os.environ), die_in_part, options))
        self.process.start()
        said.close()

    def hear(self) -> str:
        """The next thing that it says; "" once it has ended."""
        try:
            assert self._heard.poll(60), "the child is silent"
            return self._heard.recv()
        except (EOFError, ConnectionError):
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


def child(home: Path, said, environment: dict[str, str], die_in_part: int | None, options: dict[str, Any]) -> None:
    """Score; runs in the other process."""
    os.environ.update(environment)  # the server was started by an earlier test
    if log := options.pop("log", None):
        print_to(log, log)
    part_writer._FIRST_FLUSH_S = part_writer._FLUSH_S = 0.05  # many parts, so that many kills fall into a write
    pause_s = options.pop("pause_s", None)
    write = part_writer.pq.write_table

    def half(table, path, **choices):
        write(table, path, **choices)
        whole = path.read_bytes()
        path.write_bytes(whole[:500])
        if len(parts.part_files(path.parent)) == die_in_part:
            os.kill(os.getpid(), signal.SIGKILL)
        if pause_s is not None:
            said.send("half a part")
            time.sleep(pause_s)
        path.write_bytes(whole)

    def tell_the_end(progress: store.Progress) -> None:
        if pause_s is not None and progress.planned and progress.done + progress.failed == progress.planned:
            said.send("all scored")

    if die_in_part is not None or pause_s is not None:
        part_writer.pq.write_table = half
    dataset = TinyDataset(options.pop("n", N), bad=BAD, delay_s=options.pop("delay_s", DELAY_S))
    with stop_on_signals() as stop:
        run = score_work(tiny_work(home, dataset, **options), Hooks(stop, tell_the_end, on_stage=said.send))
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
