"""Held-out images by a seeded hash of what an image is, so that the same ones are held out for every encoder."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def hashed(keys: Sequence[str], dataset: str, seed: int) -> NDArray[np.float64]:
    """A number for each image that depends on its dataset, its key and the seed alone.

    Args:
        keys: Of the images, N.
        dataset: Id of their dataset.
        seed: Another seed, other numbers.

    Returns:
        Evenly spread over 0..1, (N,).
    """
    start = blake2b(f"{seed}\0{dataset}\0".encode("utf-8", "surrogatepass"), digest_size=8)

    def of(key: str) -> int:
        mine = start.copy()
        mine.update(key.encode("utf-8", "surrogatepass"))
        return int.from_bytes(mine.digest(), "big")

    return np.array([of(key) for key in keys], dtype=np.float64) / 2.0**64


def held_out(keys: Sequence[str], dataset: str, kept: Ints, seed: int, share: float) -> NDArray[np.bool_]:
    """Which images are held out; a group of duplicates is held out as a whole or not at all.

    Args:
        keys: Of the images, N.
        dataset: Id of their dataset.
        kept: Image that stands for each one's group, (N,); see ``Duplicates.kept``.
        seed: Another seed, other images.
        share: Of the groups that are held out, about.

    Returns:
        (N,).
    """
    return (hashed(keys, dataset, seed) < share)[kept]
