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


def _mean(thumbnail: bytes) -> float | None:
    try:
        return float(np.asarray(Image.open(BytesIO(thumbnail)).convert("L")).mean() / 255)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
