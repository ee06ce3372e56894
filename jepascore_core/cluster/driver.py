"""The driver of a run on Ray: deals out blocks, takes parts in, tells how far it is, deals out again what was lost."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from jepascore_core.cluster.blocks import DEADLY, Placed, cut, write_blocks
from jepascore_core.cluster.connection import Room, connected
from jepascore_core.cluster.parcel import pack
from jepascore_core.cluster.rounds import Round
from jepascore_core.datasets.base import Item
from jepascore_core.errors import RunError
from jepascore_core.files import storable, why, write_json
from jepascore_core.locks import Cancelled, hold
from jepascore_core.runner.precision import CALIBRATION_IMAGES, ladder_of
from jepascore_core.runner.reading import Loaded
from jepascore_core.runner.scoring import empty_row
from jepascore_core.runner.work import Hooks, Left, ScoreLeft
from jepascore_core.store.part_writer import write_part
from jepascore_core.store.parts import last_number
from jepascore_core.store.progress import ProgressFile
from jepascore_core.store.request import RunRequest
from jepascore_core.store.staging import make_staging, remove_staging, take_in

_MOST_FRUITLESS = 3  # rounds in which nothing comes of any image, and blocks are as small as can be
_FIRST_SPREAD = 64  # images; ``Tolerance`` asks for the spread of none fewer


@contextlib.contextmanager
def on_ray(request: RunRequest) -> Iterator[tuple[torch.device, ScoreLeft]]:
    """The engine that scores on a Ray cluster.

    Args:
        request: Which cluster, which device, how many workers.

    Yields:
        The device of the workers, and what scores there.

    Raises:
        RunError: The cluster is not there, or lacks what is asked for.
    """
    with connected(request.address, request.device, request.workers) as room:
        device = torch.device("cuda", 0) if room.device.type == "cuda" else room.device

        yield device, partial(score_with, room)


def score_with(room: Room, left: Left, progress: ProgressFile, hooks: Hooks) -> None:
    """Score what is left of a run with workers; where Ray is our own, hold this machine's devices as any run does.

    Args:
        room: Where workers find room.
        left: What is left of a run.
        progress: Told how far it is.
        hooks: Who is told what.

    Raises:
        Cancelled: ``stop`` was set before the last image.
    """

    def wait(holder: str) -> None:
        progress.set("waiting", f"Waiting for {room.device}, which is busy with {holder or 'another run'}.")
        hooks.on_stage("waiting")

    with contextlib.ExitStack() as held:
        for lock in room.locks():
            held.enter_context(hold(lock, holder=left.folder.name, waiting=wait, stop=hooks.stop))
        staging = held.enter_context(_staging(left.folder))
        Driver(room, left, progress, hooks, staging).run()
    if progress.now.done + progress.now.failed < progress.now.planned:
        raise Cancelled("Cancelled.")


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder for the workers' parts, for the length of a block.

    Raises:
        RunError: It cannot be made.
    """
    try:
        staging = make_staging(folder)
    except OSError as error:
        raise RunError(f"Cannot write in {folder} ({why(error)}).") from error
    try:
        yield staging
    finally:
        remove_staging(folder)


@dataclass
class Driver:
    """Scores what is left of a run, in rounds; each deals out all images that are left when it begins.

    One round is enough unless a node is lost, or a worker dies again and again.

    Attributes:
        room: Where workers find room.
        left: What is left of the run; its lock is held.
        progress: Told how far it is.
        hooks: Who is told what.
        staging: Folder for the workers' parts.
    """

    room: Room
    left: Left
    progress: ProgressFile
    hooks: Hooks
    staging: Path
    _open: dict[str, Placed] = field(default_factory=dict)  # what is left now, by stored key, in order
    _spent: dict[str, float] = field(default_factory=lambda: {"read_s": 0.0, "score_s": 0.0, "write_s": 0.0})
    _rescored: int = 0
    _began: float = 0.0
    _number: int = 0

    def run(self) -> None:
        """Score until nothing is left or ``stop`` is set.

        Raises:
            RunError: A worker says so, or workers die and die again.
        """
        places = self.left.tolerance.positions
        self._open = {storable(item.key): (places[storable(item.key)], item) for item in self.left.items}
        self._number = last_number(self.left.folder)
        self._spreads = Spreads(self.left, self.staging / "spreads.json")
        parcel = ray.put(pack(self.left.work, self.left.planned[:CALIBRATION_IMAGES], self.room, self.staging))
        workers = f"{self.room.workers} workers" if self.room.workers > 1 else "a worker"
        self.progress.set("waiting", f"Waiting for Ray to start {workers}.")
        self.hooks.on_stage("scoring")
        shrunk = fruitless = 0
        while self._open and not self.hooks.stop.is_set():
            before, largest = len(self._open), self._round(parcel, shrunk)
            shrunk += 1  # of no account unless something is left, for which a worker or a node died
            fruitless = fruitless + 1 if len(self._open) == before and largest == 1 else 0
            if fruitless >= _MOST_FRUITLESS:
                raise RunError("Nodes are lost faster than they can score an image; what is stored stays.")

    def _round(self, parcel: Any, shrunk: int) -> int:
        """Deal out everything that is left, once; the size of the largest block."""
        placed = list(self._open.values())
        sizes = cut(len(placed), batch_size=self.left.work.batch_size, workers=self.room.workers, shrunk=shrunk)
        ends = list(itertools.accumulate(sizes))
        file = self.staging / f"blocks{shrunk}.jsonl"
        try:
            blocks = write_blocks(file, placed, sizes)
        except OSError as error:
            raise RunError(f"Cannot write in {self.left.folder} ({why(error)}).") from error
        with contextlib.closing(Round(self.room, parcel, file, blocks)) as dealt:
            for told in dealt.results(self.hooks.stop, self.staging):
                if told["deadly"] and sizes[told["number"]] == 1:
                    self._give_up(placed[ends[told["number"]] - 1][1], told)
                else:
                    self._take(told)
        return max(sizes)

    def _give_up(self, item: Item, told: dict[str, Any]) -> None:
        """Write down that an image cannot be scored: all who tried died."""
        row = empty_row(Loaded(item, error=f"Its worker died {DEADLY} times while it was scored."))
        try:
            part = write_part(self.staging, 0, [row])
        except OSError as error:
            raise RunError(f"Cannot write in {self.left.folder} ({why(error)}).") from error
        self._take({**told, "part": part.name})

    def _take(self, told: dict[str, Any]) -> None:
        """Take a block in.

        Raises:
            RunError: Its worker gave up, or the part cannot be taken in.
        """
        if told["error"]:
            raise RunError(told["error"])
        if not told["part"]:
            return
        staged = self.staging / told["part"]
        try:
            scores = _scores_of(staged)
            if not scores.keys() <= self._open.keys():  # a block that Ray repeated, though it had been written
                staged.unlink(missing_ok=True)
                return
            self._number += 1
            take_in(staged, self.left.folder, self._number)
        except (OSError, pa.ArrowException) as error:
            said = why(error) if isinstance(error, OSError) else str(error)
            raise RunError(
                f"What {told['worker']} has written cannot be taken in ({said}); the runs folder must lie on a file "
                "system that all nodes share."
            ) from error
        self._spreads.learn(scores, [self._open.pop(key)[0] for key in scores])
        self._tell(told, done=sum(score is not None for score in scores.values()), count=len(scores))

    def _tell(self, told: dict[str, Any], *, done: int, count: int) -> None:
        """Tell how far the run is; the workers' seconds become shares of ours."""
        self._began = self._began or time.perf_counter() - sum(told[name] for name in self._spent)
        self._rescored += told["rescored"]
        for name in self._spent:
            self._spent[name] += told[name]
        share = (time.perf_counter() - self._began) / max(sum(self._spent.values()), 1e-9)
        stages = {name: seconds * share for name, seconds in self._spent.items()}
        self.progress.add(done, count - done, stages, rescored=self._rescored)
        if self.progress.now.state != "running":
            self.progress.set("running")


class Spreads:
    """Tells workers how exact a score must be: that follows from the scores of the run's first images.

    Args:
        left: What is left of the run.
        path: The file that they read.
    """

    def __init__(self, left: Left, path: Path) -> None:
        self._tolerance = left.tolerance
        precisions = ladder_of(left.work.request.precision, left.work.device)
        self._wanted = len(precisions) > 1 and left.tolerance.fixed is None
        self._path = path
        self._told: dict[str, float] = {}
        self._next = _FIRST_SPREAD
        self._settled = bytearray(b"\1" * len(left.planned))
        for item in left.items:
            self._settled[left.tolerance.positions[storable(item.key)]] = 0
        self.learn({}, [])

    def learn(self, scores: dict[str, float | None], places: list[int]) -> None:
        """Take scores in; write the file when all of the first 64, 128, 256 … images are behind us."""
        if not self._wanted:
            return
        self._tolerance.learn({key: score for key, score in scores.items() if score is not None})
        for place in places:
            self._settled[place] = 1
        before = len(self._told)
        while self._next <= len(self._settled) and self._settled.find(0, 0, self._next) < 0:
            self._told[str(self._next)] = self._tolerance.by_spread(self._next)
            self._next *= 2
        if len(self._told) > before:
            with contextlib.suppress(OSError):
                write_json(self._path, self._told, durable=False)


def _scores_of(part: Path) -> dict[str, float | None]:
    """Scores of a staged part by key, None where an image has none.

    Raises:
        OSError: It is gone or damaged.
    """
    table = pq.read_table(part, columns=["key", "jepa_score"])
    return dict(zip(table["key"].to_pylist(), table["jepa_score"].to_pylist(), strict=True))
