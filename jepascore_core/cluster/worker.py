"""A worker: holds the encoder on its device, and turns blocks of images into staged parts."""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from jepascore_core.cluster.blocks import DEADLY, Placed, read_block
from jepascore_core.cluster.parcel import Parcel, unpack
from jepascore_core.errors import JepaScoreError
from jepascore_core.files import read_json, storable, why
from jepascore_core.locks import Cancelled
from jepascore_core.runner.here import ready, run_scoring
from jepascore_core.runner.precision import LEAST_TOLERANCE, Tolerance
from jepascore_core.store.part_writer import write_part
from jepascore_core.store.parts import Row

STOP = "stop"  # a file in the staging folder: finish the batch, write it, take no more
SPREADS = "spreads.json"  # and one that tells tolerances by the number of first images that they follow from
_LOOK_S = 0.5
_MOST_READERS = 16


class Worker:
    """Scores blocks; Ray Data makes one for each GPU or share of the CPUs, and calls it.

    Args:
        parcel: One reference to a ``Parcel`` in Ray's object store.
    """

    def __init__(self, parcel: list[Any]) -> None:
        self._name = f"{platform.node()}:{os.getpid()}"
        self._problem = ""
        try:
            self._open(ray.get(parcel[0]))
        except (JepaScoreError, OSError) as error:  # told with the first block: a worker that raises is started again
            self._problem = f"A worker on {platform.node()} cannot begin: {str(error).rstrip('.')}."

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Score a block, and write it whole or not at all.

        Args:
            block: One row: ``number`` of the block, ``file`` that holds it, ``offset`` and ``length`` in it.

        Returns:
            One row: ``number``, ``worker``, name of the staged ``part`` ("" for none), whether it ``stopped`` early,
            whether the block is ``deadly``, ``error`` that ends the run (or ""), images ``rescored``, and seconds spent
            as ``run_scoring`` tells them.
        """
        number, offset, length = (int(block[name][0]) for name in ("number", "offset", "length"))
        told: dict[str, Any] = {"part": "", "error": self._problem, "stopped": False, "deadly": False, "rescored": 0}
        told |= {"read_s": 0.0, "score_s": 0.0, "write_s": 0.0, "worker": self._name, "number": number}
        file = Path(str(block["file"][0]))
        if not self._problem:
            try:
                with _marked(file.with_suffix(f".{number}")) as deaths:
                    if deaths < DEADLY:
                        told |= self._score(number, list(read_block(file, offset, length)))
                    else:
                        told["deadly"] = True
            except JepaScoreError as error:
                told["error"] = str(error)
            except OSError as error:
                told["error"] = (
                    f"A worker on {platform.node()} cannot write in the run's folder ({why(error)}); "
                    "what is stored stays, and the run can be resumed."
                )
        return {name: [value] for name, value in told.items()}

    def _open(self, parcel: Parcel) -> None:
        """Load what was sent.

        Raises:
            JepaScoreError: Encoder or dataset are out of reach here.
            FileNotFoundError: The run's folder is not on this machine.
        """
        if not parcel.staging.is_dir():
            raise FileNotFoundError("the run's folder is not there; it must lie where all nodes can write")
        room = parcel.room
        self._readers = min(room.cpus, _MOST_READERS)
        if room.device.type == "cpu":
            torch.set_num_threads(room.cpus)
        work = unpack(parcel)
        share = work.request.memory_share / (room.together if room.device.type == "cpu" else 1)
        work = replace(work, request=replace(work.request, memory_share=share))
        self._staging = parcel.staging
        self._batch_size = parcel.batch_size
        self._stop = StopFile(parcel.staging / STOP)
        self._read, self._scorer = ready(work, Tolerance(work.request.tolerance), parcel.first, self._stop)

    def _score(self, number: int, placed: list[Placed]) -> dict[str, Any]:
        """Score a block's images and stage them as one part; a cancel leaves out the last ones."""
        rows: list[Row] = []
        seconds: dict[str, float] = {}
        rescored = self._scorer.ladder.rescored
        self._scorer.tolerance = self._tolerance(placed)
        stopped = False
        try:
            run_scoring(
                [item for _, item in placed],
                read=self._read,
                score=self._scorer,
                write=rows.extend,
                report=lambda done, failed, spent: seconds.update(spent),
                batch_size=self._batch_size,
                stop=self._stop,
                readers=self._readers,
            )
        except Cancelled:
            stopped = True
        began = time.perf_counter()
        part = write_part(self._staging, number, rows).name if rows else ""
        return {
            **seconds,
            "part": part,
            "stopped": stopped or len(rows) < len(placed),
            "rescored": self._scorer.ladder.rescored - rescored,
            "write_s": seconds.get("write_s", 0.0) + time.perf_counter() - began,
        }

    def _tolerance(self, placed: list[Placed]) -> Tolerance:
        """What each score of a block may be off."""
        fixed = self._scorer.tolerance.fixed
        positions = {storable(item.key): place for place, item in placed}
        if fixed is not None or len(self._scorer.ladder.precisions) == 1:
            return Tolerance(fixed, positions)
        try:
            spreads = {int(first): float(nats) for first, nats in read_json(self._staging / SPREADS).items()}
        except (FileNotFoundError, ValueError):
            spreads = {}
        return ToldTolerance(None, positions, spreads=spreads)


@contextlib.contextmanager
def _marked(path: Path) -> Iterator[int]:
    """Leave a mark for as long as a block is in work; those of workers that died stay.

    Args:
        path: Mark of the block; a number comes behind it.

    Yields:
        How many workers died on the block before, at most ``DEADLY``.

    Raises:
        OSError: The folder cannot be written.
    """
    marks = [path.with_name(f"{path.name}.{death}") for death in range(DEADLY + 1)]
    deaths = next(death for death, mark in enumerate(marks) if death == DEADLY or not mark.exists())
    marks[deaths].touch()
    try:
        yield deaths
    finally:  # also after an error, which is no death
        marks[deaths].unlink(missing_ok=True)


@dataclass
class ToldTolerance(Tolerance):
    """The default tolerance on a worker, which does not see the scores of the others.

    Attributes:
        spreads: Tolerance, nats, by the number of first images from whose scores it follows.
    """

    spreads: dict[int, float] = field(default_factory=dict)

    def by_spread(self, first: int) -> float:
        """As ``Tolerance`` has it; or that of fewer images, while some of the first are still being scored."""
        known = max((number for number in self.spreads if number <= first), default=0)
        return self.spreads.get(known, LEAST_TOLERANCE)


class StopFile(threading.Event):
    """An event that is set once a file is there; looked for twice a second.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._looked = 0.0

    def is_set(self) -> bool:
        """Whether the file is there, or its folder is gone."""
        if not super().is_set() and time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            if self._path.exists() or not self._path.parent.is_dir():
                self.set()
        return super().is_set()
