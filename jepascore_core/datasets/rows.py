"""Numbered rows as items: what tables and arrays of images have in common."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jepascore_core.datasets.base import UNLABELLED, Item
from jepascore_core.datasets.keys import printable


class Rows(Sequence[Item]):
    """Items made when asked for, so that a million rows cost four bytes each.

    The key of a row is its part's name and its number there: ``test/00012``.

    Attributes:
        class_names: Name of each class, by label.
    """

    def __init__(self, parts: Sequence[tuple[str, int]], labels: np.ndarray, class_names: Sequence[str]) -> None:
        """Describe rows.

        Args:
            parts: Name and number of rows of each part, such as a split or a file.
            labels: (N,) int32 over all parts; ``UNLABELLED`` or an index into ``class_names``.
            class_names: Name of each class.
        """
        self.class_names = tuple(class_names)
        self._names = [name for name, _ in parts]
        self._ends = list(accumulate(count for _, count in parts))
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        part, row = self.locate(index)
        label = int(self._labels[index])
        class_name = self.class_names[label] if label != UNLABELLED else ""
        return Item(index, f"{self._names[part]}/{row:05d}", label, class_name)

    def locate(self, index: int) -> tuple[int, int]:
        """Where a row is.

        Returns:
            Number of its part, and of the row within that part.
        """
        part = bisect_right(self._ends, index)
        return part, index - (self._ends[part - 1] if part else 0)

    def label_bytes(self) -> bytes:
        """The labels, for a fingerprint."""
        return self._labels.astype("<i4").tobytes()


def encode_labels(column: pa.ChunkedArray, names: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn a column of class numbers or class names into labels.

    Args:
        column: (N,) integers, booleans, strings or a dictionary of them; of any other type counts as unlabelled.
        names: Name of each class, for integers that index into it.

    Returns:
        Labels (N,) int32, ``UNLABELLED`` where null, negative, empty or beyond ``names``; and the class names.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return _encode_numbers(column, names)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return _encode_texts(column)
    return np.full(len(column), UNLABELLED, np.int32), ()


def _encode_numbers(column: pa.ChunkedArray, names: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Integers index into the names, or are the names."""
    numbers = pc.fill_null(column.cast(pa.int64()), UNLABELLED).to_numpy()
    if names:
        labels = np.where((numbers >= 0) & (numbers < len(names)), numbers, UNLABELLED)
        return labels.astype(np.int32), unique_names(names)
    known, labels = np.unique(np.maximum(numbers, UNLABELLED), return_inverse=True)
    unlabelled = int(known[:1].tolist() == [UNLABELLED])
    return (labels - unlabelled).astype(np.int32), tuple(str(number) for number in known[unlabelled:])


def _encode_texts(column: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Distinct texts, in order, are the classes."""
    coded = column.cast(pa.binary()).dictionary_encode().combine_chunks()  # bytes: damaged files hold text that is not
    if isinstance(coded, pa.ChunkedArray):  # no rows
        return np.empty(0, np.int32), ()
    texts = [text.decode(errors="backslashreplace") for text in coded.dictionary.to_pylist()]
    ranked = sorted(set(texts) - {""})
    label_of = {text: label for label, text in enumerate(ranked)}
    table = np.array([*(label_of.get(text, UNLABELLED) for text in texts), UNLABELLED], np.int32)
    positions = pc.fill_null(coded.indices, len(texts)).to_numpy(zero_copy_only=False)
    return table[positions], unique_names(ranked)


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Class names on one line each, none twice: ``crane``, ``crane (2)``."""
    seen: dict[str, int] = {}
    result = []
    for name in map(printable, map(str, names)):
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(result)


def digest(*parts: object) -> str:
    """Hex digest of texts, numbers and bytes, for a fingerprint."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode(errors="surrogatepass")
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()
