"""What a run consists of, who is told of it, and what is left of it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.runner.planning import default_batch_size
from jepascore_core.runner.precision import Tolerance
from jepascore_core.store.progress import Progress, ProgressFile
from jepascore_core.store.request import RunRequest


def ignore(_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who is told what, and who may end it.

    Attributes:
        stop: Set it to finish the present batch, write it, and return; a batch that takes long is given up.
        on_progress: Called after each batch and at each change of state.
        on_stage: Told ``loading encoder``, ``listing dataset``, ``waiting``, ``scoring``, ``cancelled``.
    """

    stop: threading.Event
    on_progress: Callable[[Progress], None] = ignore
    on_stage: Callable[[str], None] = ignore


@dataclass(frozen=True, slots=True)
class Work:
    """All parts of a run, at hand.

    Attributes:
        request: What was asked for.
        encoder: On the CPU; moved to the device when that is free.
        dataset: The images.
        device: Where to score.
        home: Where runs lie.
        thumbnail: PIL -> JPEG.
    """

    request: RunRequest
    encoder: Encoder
    dataset: Dataset
    device: torch.device
    home: Path
    thumbnail: Callable[[Image.Image], bytes]

    @property
    def batch_size(self) -> int:
        """Images scored together."""
        return self.request.batch_size or default_batch_size(self.encoder, self.device, self.request.views)


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a run; its lock is held.

    Attributes:
        work: All parts of the run.
        planned: Every image of the run, in order.
        items: Those that are not stored, in order; at least one.
        tolerance: Knows the scores that are stored.
        folder: The run's folder.
    """

    work: Work
    planned: Sequence[Item]
    items: Sequence[Item]
    tolerance: Tolerance
    folder: Path


ScoreLeft = Callable[[Left, ProgressFile, Hooks], None]
