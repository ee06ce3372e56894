"""Mean brightness: the simplest rival of the score."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jepascore_core import store
from jepascore_core.store import Run


def brightness(run: Run, n: int = 400) -> NDArray[np.float64]:
    """Mean brightness of a run's first thumbnails, which are a stratified random sample.

    Args:
        run: The run.
        n: Most thumbnails.

    Returns:
        (N,), 0..1; thumbnails that cannot be read are left out.
    """
    found = [_mean(thumbnail) for thumbnail in store.first_thumbnails(run, n)]
    return np.array([value for value in found if value is not None], dtype=np.float64)


def brightness_of(run: Run, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean brightness of some thumbnails of a run.

    Args:
        run: The run.
        index: Numbers of the images in the run, (N,).

    Returns:
        (N,), 0..1; NaN without a thumbnail that can be read.
    """
    found = np.full(len(index), np.nan)
    for start in range(0, len(index), 1000):  # so that few pictures are in memory at once
        pictures = store.thumbnails(run, index[start : start + 1000].tolist())
        for place, number in enumerate(index[start : start + 1000].tolist(), start):
            value = _mean(pictures[number]) if number in pictures else None
            found[place] = np.nan if value is None else value
    return found


def _mean(thumbnail: bytes) -> float | None:
    try:
        return float(np.asarray(Image.open(BytesIO(thumbnail)).convert("L")).mean() / 255)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
