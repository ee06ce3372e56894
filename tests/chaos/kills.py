"""Kills of local runs at every kind of instant: what was stored stays, and the rows end as those of an unbroken run."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jepascore_core import store
from jepascore_core.store import parts
from tests.chaos.commands import FreshCommand
from tests.chaos.outcome import Outcome
from tests.chaos.trials import home_at, tried
from tests.children import BAD, Child, assert_same_rows, rows_of, wait_for

N, DELAY_S = 24, 0.01
COMMAND_LINES = 13  # one of so many trials kills the command line itself, whose start takes seconds
SIGNALS = {
    "SIGKILL": (signal.SIGKILL,),
    "SIGTERM": (signal.SIGTERM,),
    "SIGINT": (signal.SIGINT,),
    "SIGINT twice": (signal.SIGINT, signal.SIGINT),
}
PLAIN: dict[str, Any] = {"n": N, "delay_s": DELAY_S}
CALIBRATED = PLAIN | {"precision": "float16"}  # three precisions are compared before the first batch


@dataclass(frozen=True, slots=True)
class Instant:
    """When a run is killed.

    Attributes:
        name: In a few words.
        wait: Returns when that is.
        options: Of the child.
        prepare: What is done to the home beforehand.
    """

    name: str
    wait: Callable[[Child, Path, random.Random], None]
    options: dict[str, Any]
    prepare: Callable[[Path], None] = lambda home: None


def campaign(trials: int = 120, seed: int = 0, work: Path = Path("chaos")) -> list[Outcome]:
    """Kill runs, look at what is left, resume them (some resumes are killed too) and compare the rows.

    Args:
        trials: How many kills; each instant meets each signal within 28 of them.
        seed: Of the instants.
        work: A folder for the runs.

    Returns:
        One outcome for each kill.
    """
    dice = random.Random(seed)
    with home_at(work):
        unbroken = {
            precision: unbroken_rows(work / f"unbroken-{precision}", options)
            for precision, options in (("auto", PLAIN), ("float16", CALIBRATED))
        }
        found, whole = [], None
        instants = dice.sample(INSTANTS, len(INSTANTS))
        for number in range(trials):
            name, signals = list(SIGNALS.items())[number % len(SIGNALS)]
            home = work / f"kill-{number}"
            home.mkdir(parents=True)
            if number % COMMAND_LINES == COMMAND_LINES - 1:
                whole = whole or whole_command(work / "whole")
                found.append(tried("kills", f"command line, {name}", command_line_killed, home, signals, dice, whole))
            else:
                instant = instants[number % len(instants)]
                expected = unbroken[instant.options.get("precision", "auto")]
                found.append(tried("kills", f"{instant.name}, {name}", killed, home, instant, signals, dice, expected))
    return found


def killed(
    home: Path, instant: Instant, signals: tuple[signal.Signals, ...], dice: random.Random, unbroken: pd.DataFrame
) -> str:
    """One run that is killed, looked at, and resumed."""
    instant.prepare(home)
    stored = len(whole_rows(home))
    child = Child(home, **instant.options, log=home.with_suffix(".log"))
    instant.wait(child, home, dice)
    for number in signals:
        if child.process.is_alive():
            os.kill(child.process.pid, number)
        time.sleep(dice.choice((0.0, 0.0, 0.02)))
    child.ended()
    assert child.process.exitcode is not None, "the child does not end"
    words = look(home, signals[0], stored)
    if dice.random() < 0.3:  # the resume is killed as well
        stored = len(whole_rows(home))
        again = Child(home, **instant.options, log=home.with_suffix(".log"))
        time.sleep(dice.uniform(0, 0.3))
        again.kill()
        look(home, signals[0], stored)  # it may have died before it could say that it goes on
    said = Child(home, **instant.options, log=home.with_suffix(".log")).ended()
    assert said and said[-1] == "done", f"the resume ends as {said}: {home.with_suffix('.log').read_text()[-600:]}"
    settled(home, unbroken)
    return words


def look(home: Path, number: signal.Signals, before: int) -> str:
    """What a killed run looks like to a reader; fails where it does not look as it must.

    Args:
        home: Where the run lies.
        number: What killed it.
        before: Rows that were there before.

    Returns:
        Its state, and how many rows there are.
    """
    runs = store.list_runs(home)
    rows = whole_rows(home)
    if not runs:
        assert not len(rows), "a run with parts is not listed"
        return "nothing yet"
    (run,) = runs
    assert run.problem is None, run.problem
    assert len(rows) >= before, f"{before} rows were stored, {len(rows)} are left"
    progress = run.progress()
    behind = progress.done + progress.failed
    assert behind == len(rows), f"the progress counts {behind} rows, {len(rows)} are stored"
    allowed = {"done"} if behind == N else {"interrupted"} if number == signal.SIGKILL else {"interrupted", "cancelled"}
    newborn = {"queued"} if not behind else set()  # killed between run.json and progress.json, a moment ago
    assert progress.state in allowed | newborn, f"{progress.state} with {behind} of {N}"
    return f"{progress.state}, {behind} rows"


def whole_rows(home: Path) -> pd.DataFrame:
    """Rows of all whole parts; fails where a part is not whole that nobody damaged on purpose, or a row comes twice."""
    frames = [pd.DataFrame({"key": []})]
    for path in sorted(home.glob("*/part-*.parquet")):
        problem = parts.problem_of(path, thorough=True)
        assert problem is None or path.stat().st_size == _DAMAGED_BYTES, f"{path.name} {problem}"
        frames += [pd.read_parquet(path, columns=["key"])] if problem is None else []
    rows = pd.concat(frames)
    assert rows["key"].is_unique, "a row is stored twice"
    return rows


def settled(home: Path, unbroken: pd.DataFrame) -> None:
    """Fail unless a run holds each row once, equal to that of an unbroken run, and no leftovers."""
    rows = rows_of(home)
    if set(map(len, (rows, unbroken))) != {N}:
        raise AssertionError(f"{len(rows)} rows instead of {len(unbroken)}")
    (run,) = store.list_runs(home)
    if run.meta["precision"] == "auto":
        assert_same_rows(rows, unbroken)
    else:
        assert_same_within_bars(rows, unbroken)
    assert store.counts(run) == {"planned": N, "done": N - len(BAD[:1]), "failed": len(BAD[:1])}
    assert run.progress().state == "done" and run.warning is None
    left = [path.name for path in run.path.iterdir() if path.name.endswith(".tmp")]
    assert not left, f"left over: {left}"


def assert_same_within_bars(rows: pd.DataFrame, unbroken: pd.DataFrame) -> None:
    """Where images are scored in float16 at first, a resume calibrates anew: rows agree within their error bars."""
    exact = ["index", "key", "label", "class_name", "width", "height", "thumbnail", "error"]
    pd.testing.assert_frame_equal(rows[exact], unbroken[exact])
    apart = (rows["jepa_score"] - unbroken["jepa_score"]).abs()
    bars = rows["score_error"] + unbroken["score_error"]
    assert not (apart > bars).any(), f"scores differ by {np.nanmax(apart):.2g}, beyond their error bars"


def unbroken_rows(home: Path, options: dict[str, Any]) -> pd.DataFrame:
    """Rows of a run that nobody kills."""
    home.mkdir(parents=True)
    said = Child(home, **options | {"delay_s": 0.0}).ended()
    assert said[-1] == "done", said
    return rows_of(home)


def at_the_start(child: Child, home: Path, dice: random.Random) -> None:
    """Before the run has its folder, or while it is made."""
    time.sleep(dice.uniform(0, 0.15))


def at_first_image(child: Child, home: Path, dice: random.Random) -> None:
    """While precisions are compared on the first images."""
    child.hear()
    time.sleep(dice.uniform(0, 0.1))


def between_images(child: Child, home: Path, dice: random.Random) -> None:
    """Any time between the first image and the last."""
    child.hear()
    time.sleep(dice.uniform(0, N * DELAY_S))


def within_a_write(child: Child, home: Path, dice: random.Random) -> None:
    """While half of a part is written."""
    for _ in range(dice.randint(1, 3)):
        until(child, "half a part")
    time.sleep(dice.uniform(0, 0.03))


def after_a_write(child: Child, home: Path, dice: random.Random) -> None:
    """As soon as a part has its name."""
    wanted = len(list(home.glob("*/part-*.parquet"))) + dice.randint(1, 2)
    wait_for(lambda: len(list(home.glob("*/part-*.parquet"))) >= wanted or not child.process.is_alive(), "part")


def at_the_end(child: Child, home: Path, dice: random.Random) -> None:
    """When the last image is scored, and before the last part is written, the progress told or the process gone."""
    until(child, "all scored")
    time.sleep(dice.uniform(0, 0.08))


def until(child: Child, words: str) -> None:
    """Hear a child until it says something, or ends."""
    while child.hear() not in (words, ""):
        pass


_DAMAGED_BYTES = 1000


def half_done_and_damaged(home: Path) -> None:
    """Leave a run that was killed, one of whose parts a bad disk has cut off."""
    child = Child(home, **PLAIN, log=home.with_suffix(".log"))
    child.hear()
    wait_for(lambda: len(list(home.glob("*/part-*.parquet"))) >= 2, "second part")
    child.kill()
    path = min(home.glob("*/part-*.parquet"))
    path.write_bytes(path.read_bytes()[:_DAMAGED_BYTES])


INSTANTS = (
    Instant("at the start", at_the_start, PLAIN),
    Instant("while calibrating", at_first_image, CALIBRATED),
    Instant("between images", between_images, PLAIN),
    Instant("within a part's write", within_a_write, PLAIN | {"pause_s": 0.02}),
    Instant("after a part's write", after_a_write, PLAIN),
    Instant("at the end", at_the_end, PLAIN | {"pause_s": 0.02}),
    Instant("while it heals a damaged part", at_the_start, PLAIN, half_done_and_damaged),
)


def demo_command(home: Path) -> list[object]:
    """A command line that scores sixty of the demo's digits."""
    return [
        "score", "--encoder=demo:jepa-tiny", "--dataset=demo:digits", "--limit=60", "--batch-size=4", "--device=cpu",
        f"--runs-dir={home}",
    ]  # fmt: skip


def whole_command(home: Path) -> tuple[float, pd.DataFrame]:
    """Seconds that the command takes when nobody kills it, and its rows."""
    home.mkdir(parents=True)
    ended = FreshCommand(demo_command(home), home.with_suffix(".log")).wait().done()
    return ended.seconds, rows_of(home)


def command_line_killed(
    home: Path, signals: tuple[signal.Signals, ...], dice: random.Random, whole: tuple[float, pd.DataFrame]
) -> tuple[str, float | None]:
    """The command line itself, killed between the start of Python and its last word."""
    seconds, unbroken = whole
    command = FreshCommand(demo_command(home), home.with_suffix(".log"))
    time.sleep(dice.uniform(0, 1.1 * seconds))
    for number in signals:
        command.send(number)
        time.sleep(dice.choice((0.0, 0.05)))
    killed = command.wait()
    words = f"exit code {killed.code}"
    assert "Traceback" not in killed.err, killed.err[-1500:]
    if killed.code > 0:  # otherwise it was done, or the signal itself ended it, too early or too late for words
        words = killed.sentence()
    whole_rows(home)
    listed = FreshCommand(["runs", "--json", f"--runs-dir={home}"], home.with_suffix(".runs")).wait().done()
    assert all(run["problem"] is None for run in json.loads(listed.out)), listed.out
    again = FreshCommand(demo_command(home), home.with_suffix(".log")).wait().done()
    assert_same_rows(rows_of(home), unbroken)
    return words, again.memory_mb
