"""Arrays to pictures: singular vectors on mid-grey, leverage over an image. NumPy only."""

import numpy as np
from numpy.typing import NDArray

_AMBER = np.array([242, 166, 12], dtype=np.float64)


def vector_picture(vector: NDArray[np.floating], scale: float) -> NDArray[np.uint8]:
    """Show a signed image symmetric around zero: zero is mid-grey, ±scale is full range.

    Args:
        vector: Right singular vector (C, H, W), C is 1 or 3.
        scale: Absolute value that maps to black or white; share it along a row of pictures.

    Returns:
        Picture (H, W, 3), 0..255.
    """
    picture = 127.5 + 127.5 * np.clip(vector / max(scale, 1e-12), -1, 1)
    picture = np.moveaxis(picture, 0, -1)  # (H, W, C)
    return np.round(np.broadcast_to(picture, (*picture.shape[:2], 3))).astype(np.uint8)


def common_scale(vectors: NDArray[np.floating]) -> float:
    """Absolute value that 99.5 % of all entries stay below, so that one hot pixel does not grey out a row.

    Args:
        vectors: Any number of signed images, stacked.

    Returns:
        The scale for ``vector_picture``.
    """
    return float(np.quantile(np.abs(vectors), 0.995)) if vectors.size else 1.0


def leverage_picture(image: NDArray[np.uint8], leverage: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Lay a leverage map in amber over the greyed image.

    Args:
        image: Picture (H, W, 3), 0..255.
        leverage: Leverage (h, w) ≥ 0; each patch is drawn as one square.

    Returns:
        Picture (H, W, 3), 0..255; opacity grows with the patch's share of the largest leverage.
    """
    height, width = image.shape[:2]
    grey = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    grey = np.repeat((40 + 0.62 * grey)[..., None], 3, axis=-1)
    rows = np.arange(height) * leverage.shape[0] // height
    columns = np.arange(width) * leverage.shape[1] // width
    share = np.sqrt(leverage / max(float(leverage.max()), 1e-12))[np.ix_(rows, columns)]
    alpha = 0.92 * share[..., None]
    return np.round((1 - alpha) * grey + alpha * _AMBER).astype(np.uint8)


def enlarged(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Enlarge by whole pixels.

    Args:
        picture: (H, W, 3).
        side: Least height, px.

    Returns:
        (nH, nW, 3), n the least whole number with nH ≥ side.
    """
    times = max(1, -(-side // picture.shape[0]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
