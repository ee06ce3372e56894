"""Rows of a run as arrays: what judging needs of each image, and which image it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jepascore_core.errors import JepaScoreError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Identities = NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15  # splitmix64 (Steele, Lea and Flood 2014)


class OutlierError(JepaScoreError):
    """Rows cannot be judged: too few, of another encoder, or without what a method needs."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """N scored images under one encoder.

    Attributes:
        name: What the rows are called, such as the run's name.
        identities: Which image each row is, (N,): a hash of dataset and key; see ``identities_of``.
        keys: Key of each image, (N,) of str.
        index: Number of each image in its run, (N,).
        class_names: Class of each image, (N,) of str; "" where it has none.
        scores: Stored score, nats, (N,): eq. (5), or eq. (4) where ``views`` is above 1; NaN where there is none.
        embeddings: (N, D) float32, NaN in rows without one; None where no row has one.
        spectra: Singular values, descending, (N, D) float32, NaN in rows without them; None where no row has them.
        sphere_terms: ½ log(ẑᵀ(JJᵀ)⁺ẑ), nats, (N,), NaN in rows without one; None where no row has one.
        null_dim: Structurally null directions of the encoder.
        views: T of eq. (4) behind ``scores``.
        encoder: Text that is the same for rows of the same encoder; "" where nobody knows.
        total: Rows that the run holds, of which these are a seeded sample; N where they are all.
    """

    name: str
    identities: Identities = field(repr=False)
    keys: NDArray[np.object_] = field(repr=False)
    index: Ints = field(repr=False)
    class_names: NDArray[np.object_] = field(repr=False)
    scores: Floats = field(repr=False)
    embeddings: NDArray[np.float32] | None = field(repr=False, default=None)
    spectra: NDArray[np.float32] | None = field(repr=False, default=None)
    sphere_terms: Floats | None = field(repr=False, default=None)
    null_dim: int = 0
    views: int = 1
    encoder: str = ""
    total: int = 0

    def __len__(self) -> int:
        return len(self.identities)

    def take(self, which: Ints | NDArray[np.bool_], *, name: str | None = None) -> "Rows":
        """Some of the rows.

        Args:
            which: Their places, (M,), or a mask, (N,).
            name: What they are called; None keeps the name.

        Returns:
            M rows; ``total`` becomes M where it was N.
        """
        arrays: dict[str, Any] = {
            part.name: value[which]
            for part in fields(self)
            if isinstance(value := getattr(self, part.name), np.ndarray)
        }
        count = len(arrays["identities"])
        return replace(
            self, **arrays, name=self.name if name is None else name,
            total=count if self.total <= len(self) else self.total,
        )  # fmt: skip

    def with_name(self, name: str) -> "Rows":
        """The same rows under another name."""
        return replace(self, name=name)

    def light(self) -> "Rows":
        """The same rows without the wide arrays, for what is kept after judging."""
        return replace(self, embeddings=None, spectra=None, sphere_terms=None)


def make_rows(
    name: str,
    *,
    scores: NDArray[np.floating],
    keys: Sequence[str] | NDArray[np.object_] | None = None,
    dataset: str | None = None,
    class_names: Sequence[str] | NDArray[np.object_] | None = None,
    embeddings: NDArray[np.floating] | None = None,
    spectra: NDArray[np.floating] | None = None,
    sphere_terms: NDArray[np.floating] | None = None,
    index: Ints | None = None,
    null_dim: int = 0,
    views: int = 1,
    encoder: str = "",
    total: int | None = None,
) -> Rows:
    """Rows from plain arrays.

    Args:
        name: What they are called.
        scores: (N,), nats.
        keys: N of them, distinct; None numbers the rows.
        dataset: Which dataset the keys belong to; None takes ``name``.
        class_names: N of them; None for no classes.
        embeddings: (N, D).
        spectra: (N, D), descending.
        sphere_terms: (N,), nats.
        index: (N,); None numbers the rows.
        null_dim: Structurally null directions.
        views: T behind ``scores``.
        encoder: Which encoder they are of.
        total: Rows that these are a sample of; None says that they are all.

    Returns:
        The rows.

    Raises:
        ValueError: The arrays are not of one length, or null_dim does not fit the spectra.
    """
    n = len(scores)
    named = np.array([str(number) for number in range(n)] if keys is None else list(keys), dtype=object)
    classes = np.full(n, "", dtype=object) if class_names is None else np.array(list(class_names), dtype=object)
    arrays = {"keys": named, "class_names": classes, "embeddings": embeddings, "spectra": spectra,
              "sphere_terms": sphere_terms, "index": index}  # fmt: skip
    wrong = {what: len(array) for what, array in arrays.items() if array is not None and len(array) != n}
    if wrong:
        raise ValueError(f"Rows need arrays of one length, {n}, not {wrong}.")
    if spectra is not None and not 0 <= null_dim < max(spectra.shape[1], 1):
        raise ValueError(f"Cannot leave {null_dim} out of {spectra.shape[1]} singular values.")
    return Rows(
        name=name,
        identities=identities_of(dataset or name, named),
        keys=named,
        index=np.arange(n) if index is None else np.asarray(index, np.int64),
        class_names=classes,
        scores=np.asarray(scores, np.float64),
        embeddings=None if embeddings is None else np.asarray(embeddings, np.float32),
        spectra=None if spectra is None else np.asarray(spectra, np.float32),
        sphere_terms=None if sphere_terms is None else np.asarray(sphere_terms, np.float64),
        null_dim=null_dim,
        views=views,
        encoder=encoder,
        total=n if total is None else total,
    )


def identities_of(dataset: str, keys: NDArray[np.object_]) -> Identities:
    """Which image each row is: the same key in two datasets is not the same image.

    Args:
        dataset: The dataset's fingerprint, or its id where it has none.
        keys: (N,) of str.

    Returns:
        (N,), 64-bit hashes, the same on every machine. Should two images ever share one, a judgement is refused that
        could have been made; none is made that should have been refused.
    """
    salt = blake2b(dataset.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    if not len(keys):
        return np.zeros(0, np.uint64)
    return pd.util.hash_array(keys.astype(object), hash_key=salt, categorize=False)


def folds_of(keys: NDArray[np.object_], folds: int, seed: int = 0) -> Ints:
    """Fold of each row: a seeded hash of its key, so that it does not depend on which other rows there are.

    The dataset has no part in it: an image and its twin in another dataset (the same photograph, blurred) share a
    fold, and neither is judged by a model that was fitted to the other.

    Args:
        keys: (N,) of str.
        folds: K ≥ 1.
        seed: Another seed, other folds.

    Returns:
        (N,), 0..K−1.

    Example:
        >>> folds_of(np.array(["a", "b", "c", "d"], dtype=object), 2).tolist()
        [1, 0, 1, 1]
    """
    return (mixed(identities_of("", keys), seed) % np.uint64(folds)).astype(np.int64)


def sampled(identities: Identities, most: int, seed: int = 0) -> Ints:
    """A seeded sample that more rows change little: those with the smallest hashes.

    Args:
        identities: (N,).
        most: Rows to keep at most.
        seed: Another seed, another sample.

    Returns:
        Places of the kept rows, ascending.
    """
    if len(identities) <= most:
        return np.arange(len(identities))
    return np.sort(np.argpartition(mixed(identities, seed ^ 0x5A3D), most)[:most])


def mixed(numbers: Identities, seed: int) -> Identities:
    """Another 64-bit number for each, by seed: the finaliser of splitmix64."""
    shift = np.uint64((_GOLDEN * (seed + 1)) % (1 << 64))
    z = numbers + shift
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
