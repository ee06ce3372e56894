"""Read, decode and transform images ahead of the scoring, in threads."""

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image
from threadpoolctl import threadpool_limits
from torch import Tensor

from jepascore_core.datasets.base import Dataset, Item
from jepascore_core.datasets.images import shared_room
from jepascore_core.errors import DatasetGone, ImageError, lacks_memory
from jepascore_core.view_policy import draw_view

_MAX_WORKERS = 16
_READERS_NICENESS = 15
_ORDINARY_IMAGE_BYTES = 64 << 20  # 20 megapixels; where there is room for them, it is the image that is too large


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image, ready for the encoder, or why it is not.

    Attributes:
        item: Which image.
        views: (T, C, H, W) float32, view 0 is the plain image; None when there is an error.
        width: px, None when the image could not be read.
        height: px.
        thumbnail: JPEG, None when the image could not be read.
        error: Why there is nothing to score.
    """

    item: Item
    views: Tensor | None = None
    width: int | None = None
    height: int | None = None
    thumbnail: bytes | None = None
    error: str | None = None


def reader(
    dataset: Dataset,
    transform: Callable[[Image.Image], Tensor],
    thumbnail: Callable[[Image.Image], bytes],
    *,
    views: int = 1,
    seed: int = 0,
) -> Callable[[Item], Loaded]:
    """Make the function that reads one image; it raises only where memory runs out or all images are gone.

    Args:
        dataset: Where images come from.
        transform: PIL -> (C, H, W), as the encoder wants it.
        thumbnail: PIL -> JPEG.
        views: T.
        seed: Seed of the views.

    Returns:
        Item -> Loaded; safe to call from several threads.
    """

    def read(item: Item) -> Loaded:
        with shared_room():
            return load(item)

    def load(item: Item) -> Loaded:
        try:
            image = dataset.read(item)
            small = thumbnail(image)
        except DatasetGone:
            raise  # a disk that was taken away is no property of its images
        except Exception as error:
            _blame_no_image_for_memory(error)
            return Loaded(item, error=reason(error))
        try:
            drawn = (draw_view(image, seed=seed, key=item.key, view=view) for view in range(views))
            stacked = torch.stack([transform(view) for view in drawn])  # (T, C, H, W)
        except Exception as error:
            _blame_no_image_for_memory(error)
            return Loaded(item, None, image.width, image.height, small, reason(error))
        return Loaded(item, stacked, image.width, image.height, small)

    return read


def read_ahead(
    items: Iterable[Item],
    read: Callable[[Item], Loaded],
    *,
    batch_size: int,
    workers: int | None = None,
    stop: threading.Event,
) -> Generator[list[Loaded], None, None]:
    """Read images in threads, a bounded number ahead, and give them in order, in batches.

    Args:
        items: What to read; may be endless.
        read: Reads one.
        batch_size: Images in a batch; the last may be smaller.
        workers: Threads; None takes one for each CPU core, at most 16.
        stop: Ends the iteration after the present batch.

    Yields:
        Batches.
    """
    workers = workers or min(os.cpu_count() or 1, _MAX_WORKERS)
    ahead = 2 * batch_size + workers  # one batch in work, one ready
    waiting: deque[Future[Loaded]] = deque()
    source = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reader", initializer=_give_way)
    try:
        while not stop.is_set():
            waiting.extend(pool.submit(read, item) for item in islice(source, ahead - len(waiting)))
            if not waiting:
                return
            batch = [waiting.popleft().result() for _ in range(min(batch_size, len(waiting)))]
            if not stop.is_set():
                yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _blame_no_image_for_memory(error: Exception) -> None:
    """Raise an error where there is no memory for any ordinary image: the run ends, and can be resumed."""
    if lacks_memory(error):
        try:
            bytearray(_ORDINARY_IMAGE_BYTES)
        except MemoryError:
            raise error from None


def _give_way() -> None:
    """Leave the cores to the scoring: it waits for the slowest of its threads at the end of every product.

    A reader works on one core, for OpenMP puts its threads to sleep between products, which then wait for them to wake
    up, as soon as there are more of them than cores in the whole process. And it works after other threads, where the
    system lets one ask for it (Linux).
    """
    with contextlib.suppress(Exception):  # a reader that cannot give way reads all the same
        _step_back()


def _step_back() -> None:
    """Take one core, after others."""
    torch.get_num_threads()  # sets this thread's number at the first call, and would undo the limit later
    threadpool_limits(1, user_api="openmp")
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _READERS_NICENESS)


def reason(error: BaseException) -> str:
    """Why an image has no score, in at most 300 characters of one line.

    Args:
        error: What was raised.

    Returns:
        The message of an error meant for people; otherwise with its class before it.
    """
    text = " ".join(str(error).split())
    named = text if isinstance(error, ImageError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
    return named[:300]
