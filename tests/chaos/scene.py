"""What a fault befalls: photographs, an unbroken run of them, commands, and what a reader makes of what is left."""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from jepascore_core import store
from jepascore_core.store import parts
from tests.chaos import surroundings
from tests.chaos.commands import Before, Command, Ended
from tests.children import assert_same_rows, context, rows_of

PHOTOGRAPHS = 40
CLASSES = ("cat", "dog")


@dataclass(slots=True)
class Scene:
    """One trial's folder, and what it begins with.

    Attributes:
        folder: Of this trial.
        photographs: A folder of images in two classes.
        unbroken: Runs folder that holds one run of them, in several parts.
        dice: Decides what the trial leaves open.
        memory_mb: Most memory that a command of the trial took.
    """

    folder: Path
    photographs: Path
    unbroken: Path
    dice: random.Random
    memory_mb: float | None = None
    _commands: int = field(default=0)

    @property
    def runs(self) -> Path:
        """The trial's runs folder."""
        return self.folder / "runs"

    def start(self, *arguments: object, before: Sequence[Before] = ()) -> Command:
        """Start a command on the trial's runs folder."""
        self._commands += 1
        words = [*arguments, f"--runs-dir={self.runs}"]
        return Command(words, self.folder / f"command-{self._commands}", before)

    def command(self, *arguments: object, before: Sequence[Before] = ()) -> Ended:
        """Run a command on the trial's runs folder."""
        return self.ended(self.start(*arguments, before=before))

    def outcome(self, command: Command) -> Ended:
        """Wait for a command, however it ends."""
        ended = command.wait()
        self.memory_mb = max(self.memory_mb or 0.0, ended.memory_mb or 0.0) or None
        return ended

    def ended(self, command: Command) -> Ended:
        """Wait for a command; a signal that ends it is a crash, and a traceback no way to end."""
        ended = self.outcome(command)
        assert ended.code >= 0, f"a command crashed with signal {-ended.code}: {ended.err[-600:]}"
        assert "Traceback" not in ended.err, ended.err[-1500:]
        return ended

    def scoring(self) -> list[object]:
        """Arguments of the command that scores the photographs."""
        return score_words(self.photographs)

    def copy(self) -> store.Run:
        """The unbroken run, in the trial's runs folder."""
        shutil.copytree(self.unbroken, self.runs)
        (run,) = store.list_runs(self.runs)
        return run

    def rows(self) -> pd.DataFrame:
        """Rows of the unbroken run."""
        return rows_of(self.unbroken)

    def run(self) -> store.Run:
        """The trial's run."""
        (run,) = store.list_runs(self.runs)
        return run

    def scored_again(self) -> None:
        """Ask for the same run again; fail unless it ends with the rows of the unbroken one."""
        self.command(*self.scoring(), before=[surroundings.many_parts]).done()
        self.whole()

    def whole(self) -> None:
        """Fail unless the trial's run is whole and holds the rows of the unbroken one."""
        run = self.run()
        assert run.problem is None and run.warning is None, run.problem or run.warning
        assert_same_rows(rows_of(self.runs), self.rows())
        assert run.progress().state == "done", run.progress()

    def verified(self, *options: object) -> list[str]:
        """What ``verify`` says is wrong, or was."""
        ended = self.command("verify", self.run().path, "--json", *options)
        (found,) = json.loads(ended.out)
        assert (ended.code == 0) == found["sound"], f"exit code {ended.code} of {found}"
        return [wrong["words"] for wrong in found["wrong"]] + found["repaired"]

    def seen(self) -> pd.DataFrame:
        """What a reader sees of the trial's run; fails where reading crashes or hangs."""
        heard, said = context.Pipe(duplex=False)
        process = context.Process(target=_tell_rows, args=(self.run().path, said))
        process.start()
        said.close()
        try:
            assert heard.poll(60), "reading hangs"
            found = heard.recv()
        except EOFError:
            process.join(10)
            raise AssertionError(f"reading ends with exit code {process.exitcode}") from None
        finally:
            process.kill()
            process.join()
        assert isinstance(found, pd.DataFrame), found
        return found


def score_words(photographs: Path) -> list[object]:
    """Arguments of the command that scores photographs."""
    return ["score", "--encoder=demo:jepa-tiny", f"--dataset=folder:{photographs}", "--batch-size=4", "--device=cpu"]


def photographs_in(folder: Path, count: int = PHOTOGRAPHS) -> Path:
    """Write noise as JPEG files in two classes."""
    for number in range(count):
        path = folder / CLASSES[number % 2] / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


def unbroken_in(runs: Path, photographs: Path) -> Path:
    """Score photographs; nothing happens to that run."""
    runs.mkdir(parents=True)
    words = [*score_words(photographs), f"--runs-dir={runs}"]
    Command(words, runs.with_suffix(".log"), [surroundings.many_parts]).wait().done()
    rows = rows_of(runs)
    (run,) = store.list_runs(runs)
    assert len(rows) == PHOTOGRAPHS and rows["jepa_score"].notna().all() and len(parts.part_files(run.path)) == 5
    return runs


def same_bytes_or_values(path: Path, pristine: Path) -> bool:
    """Whether a damaged part holds the values of the pristine one all the same; only where reading it is harmless."""
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=_tell_equal, args=(path, pristine, said))
    process.start()
    said.close()
    try:
        return bool(heard.poll(60) and heard.recv())
    except EOFError:
        return False
    finally:
        process.kill()
        process.join()


def _tell_equal(path: Path, pristine: Path, said) -> None:
    """Compare two parts; runs in a process of its own, for damaged ones are read."""
    try:
        found, expected = (pq.ParquetFile(each).read() for each in (path, pristine))
        said.send(found.equals(expected))
    except Exception:
        said.send(False)


def _tell_rows(folder: Path, said) -> None:
    """Read a run as pages do; runs in a process of its own."""
    try:
        run = store.open_run(folder)
        store.counts(run), store.failures(run), run.progress(), store.class_counts(run)
        frame = store.scores(run)
        store.thumbnails(run, frame["index"].tolist()[:8])
        store.spectra(run, limit=8)
        store.extremes(run, 5, which="least")
        said.send(frame[["key", "score"]])
    except Exception as error:
        said.send(f"{type(error).__name__}: {error}")


def limited(megabytes: int) -> Before:
    """A process with little memory, as something that can be sent to it."""
    return partial(surroundings.little_memory, megabytes)
