"""How long a run would take here: the real pipeline for a few seconds, and arithmetic for the rest."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jepascore_core.datasets import at_hand, load_dataset
from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.datasets.images import thumbnail
from jepascore_core.devices import lock_of, resolve_device
from jepascore_core.encoders import load_encoder
from jepascore_core.encoders.encoder import Encoder
from jepascore_core.errors import RunError
from jepascore_core.jacobian import JacobianSummary, jacobian_summary
from jepascore_core.locks import Busy, Cancelled, hold, holder_of
from jepascore_core.memory import bound_memory
from jepascore_core.runner.planning import default_batch_size, plan
from jepascore_core.runner.precision import CALIBRATION_IMAGES, Ladder, Tolerance, ladder_of
from jepascore_core.runner.reading import Loaded, read_ahead, reader
from jepascore_core.runner.scoring import BatchScorer
from jepascore_core.store.costs import Cost
from jepascore_core.store.part_writer import PartWriter
from jepascore_core.store.parts import Row
from jepascore_core.store.request import RunRequest

HOLDER = "a measurement of its speed"  # what those who wait for the device are told

_WARM_UP_S = 1.0  # of batches that do not count; at least one
_MEASURED_S = 2.0  # of batches that do; at least one
_ENOUGH_S = 5.0  # a batch that takes longer is broken off, and reckoned from the share that is done
_TYPICAL_S = 2.0  # its first seconds are not typical of it
_NOISE_IMAGES = 64


def measure_cost(request: RunRequest, *, start_s: float = 0.0) -> Cost:
    """Measure how fast a request would be scored here; takes seconds beside the loading, whatever the encoder.

    Published encoders get random weights: speed does not depend on them, and nothing need be downloaded. Noise of the
    encoder's input size stands for a dataset that would have to be downloaded.

    Args:
        request: What would be scored.
        start_s: Seconds that this process needed before the call, as that of a run will.

    Returns:
        The cost.

    Raises:
        JepaScoreError: The encoder or the dataset is out of reach, or none of its first images can be scored.
        Busy: Another process holds the device.
    """
    began = time.perf_counter()
    request.check()
    device = resolve_device(request.device)
    if (holder := holder_of(lock_of(device))) is not None:
        _refuse(device, holder)
    encoder = load_encoder(
        request.encoder_id,
        pretrained=request.pretrained and request.encoder_id.startswith(("demo:", "file:")),
        input_size=request.input_size,
    )
    dataset, items, images = _first_images(request, encoder)
    with hold(lock_of(device), holder=HOLDER, waiting=lambda holder: _refuse(device, holder)):
        bound_memory(device, request.memory_share)
        dtype = torch.float64 if request.precision == "float64" else torch.float32
        ladder = Ladder(encoder.to(device, dtype), ladder_of(request.precision, device), _BrokenOff())
        score = BatchScorer(ladder, Tolerance(request.tolerance), device=device, dtype=dtype)
        read = reader(dataset, encoder.transform, thumbnail, views=request.views, seed=request.seed)
        start_s += time.perf_counter() - began
        start_s += _calibrate(score, items, read)
        batch_size = request.batch_size or default_batch_size(encoder, device, request.views)
        image_s, cold_s = _pace(items, read, score, batch_size)
    return Cost(1 / image_s, start_s + cold_s, str(device), images)


def _refuse(device: torch.device, holder: str) -> NoReturn:
    """Do not measure beside another run."""
    raise Busy(f"{device} is busy with {holder or 'another run'}; the cost can be measured when it is free.")


def _first_images(request: RunRequest, encoder: Encoder) -> tuple[Dataset, Sequence[Item], int | None]:
    """What to measure with, and how many images a run would have."""
    if at_hand(request.dataset_id):
        dataset = load_dataset(request.dataset_id)
        items = plan(dataset, request)
        return dataset, items, len(items)
    noise = _Noise(encoder.spec.input_size)
    return noise, noise.items, None


def _calibrate(score: BatchScorer, items: Sequence[Item], read: Callable[[Item], Loaded]) -> float:
    """Compare the precisions as a run does, where there are several; seconds that this takes a run."""
    precisions = score.ladder.precisions
    if len(precisions) == 1:
        return 0.0
    began = time.perf_counter()
    try:
        score.calibrate([read(item) for item in items[:CALIBRATION_IMAGES]])
    except _Enough as enough:
        return enough.seconds * len(precisions)  # that of the slowest one, which comes first
    return time.perf_counter() - began


def _pace(
    items: Sequence[Item],
    read: Callable[[Item], Loaded],
    score: Callable[[Sequence[Loaded]], list[Row]],
    batch_size: int,
) -> tuple[float, float]:
    """Seconds for an image, and how much longer the first batches take.

    Raises:
        RunError: None of the images can be scored, or there is no room for temporary files.
    """
    together = min(batch_size, len(items))
    laps: list[float] = []
    rows: list[Row] = []
    reading = read_ahead(itertools.cycle(items), read, batch_size=together, stop=threading.Event())
    with TemporaryDirectory() as folder, PartWriter(Path(folder)) as writer, closing(reading) as batches:
        began = time.perf_counter()
        try:
            while _unsure(laps):
                rows += (scored := score(next(batches)))
                writer.write(scored)  # it takes its share of the cores too
                laps.append(time.perf_counter() - began - sum(laps))
        except _Enough as enough:
            return enough.seconds / together, 0.0
    if all(row["error"] for row in rows):
        raise RunError(f"None of the first {len(rows)} images can be scored: {rows[0]['error']}")
    cold = _cold(laps)
    lap_s = sum(laps[cold:]) / (len(laps) - cold)
    return lap_s / together, max(0.0, sum(laps[:cold]) - lap_s * cold)


def _unsure(laps: Sequence[float]) -> bool:
    """Whether batches that took so many seconds each do not tell the pace yet."""
    warm = laps[_cold(laps) :]
    return not warm or sum(warm) < _MEASURED_S


def _cold(laps: Sequence[float]) -> int:
    """How many of the first batches are warm-up."""
    totals = itertools.accumulate(laps)
    return next((number for number, total in enumerate(totals, 1) if total >= _WARM_UP_S), len(laps))


class _Enough(Cancelled):
    """A batch has shown how long it takes.

    Args:
        seconds: How long that is.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__("Measured.")
        self.seconds = seconds


class _BrokenOff:
    """``jacobian_summary`` that breaks off a batch that has shown how long it takes."""

    def __call__(
        self,
        encoder: Any,
        images: Tensor,
        *,
        null_dim: int,
        precision: str,
        on_share: Callable[[float], None] | None = None,
    ) -> JacobianSummary:
        """Score images, or a share of them.

        Args:
            encoder: As ``jacobian_summary`` takes it.
            images: (B, C, H, W).
            null_dim: As ``jacobian_summary`` takes it.
            precision: As ``jacobian_summary`` takes it.
            on_share: Not told.

        Returns:
            The summary of a quick batch; a slow one raises ``_Enough``.
        """
        self._began, self._seen = time.perf_counter(), list[tuple[float, float]]()
        self._device = images.device
        return jacobian_summary(encoder, images, null_dim=null_dim, precision=precision, on_share=self._look)

    def _look(self, share: float) -> None:
        """Note when a share of the work was done.

        Raises:
            _Enough: That was long enough.
        """
        elapsed_s = time.perf_counter() - self._began
        if elapsed_s < _TYPICAL_S:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # work that was only handed over is not done
            elapsed_s = time.perf_counter() - self._began
        if self._seen and share < self._seen[-1][1]:  # it began anew, on another path
            self._began, self._seen = time.perf_counter(), []
            return
        self._seen.append((elapsed_s, share))
        if elapsed_s >= _ENOUGH_S:
            raise _Enough(_whole(self._seen))


def _whole(seen: Sequence[tuple[float, float]]) -> float:
    """Seconds that a batch takes in all, from the seconds after which shares of it were done."""
    (before_s, before), (now_s, now) = seen[0], seen[-1]
    share_s = (now_s - before_s) / (now - before) if now > before else now_s / now
    return now_s + (1 - now) * share_s


class _Noise(Dataset):
    """Noise images of one size, all of one class.

    Args:
        input_size: (C, H, W) of an encoder.
    """

    id = "noise"
    fingerprint = ""
    class_names = ()

    def __init__(self, input_size: tuple[int, int, int]) -> None:
        self._shape = (*input_size[1:], 3)
        self.items = [Item(i, str(i)) for i in range(_NOISE_IMAGES)]

    def read(self, item: Item) -> Image.Image:
        """Draw an image.

        Args:
            item: Which one; the same each time.

        Returns:
            RGB.
        """
        dice = np.random.default_rng(item.index)
        return Image.fromarray(dice.integers(0, 256, self._shape, dtype=np.uint8))
