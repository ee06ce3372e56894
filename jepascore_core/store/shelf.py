"""What is remembered of runs between two clicks, up to a number of bytes.

What was used longest ago is forgotten first, and what was put in an order, which takes a moment, before what was read
from disk.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Name = tuple[Hashable, ...]  # what kind of thing, the run's folder, and which one of that kind
Held = dict[int, int]  # size of each stretch of memory by its address, so that what two things share counts once


@dataclass(frozen=True, slots=True)
class _Kept:
    stamp: str
    value: Any
    held: Held
    dear: bool


class Shelf:
    """Values by name; safe to use from many threads."""

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self._kept: OrderedDict[Name, _Kept] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, name: Name, stamp: str) -> Any | None:
        """What was made of a run as it is now, or None; it counts as used."""
        with self._turn:
            kept = self._kept.get(name)
            if kept is None or kept.stamp != stamp:
                return None
            self._kept.move_to_end(name)
            return kept.value

    def last(self, name: Name) -> Any | None:
        """What was made last, whatever has become of the run since, or None; it counts as used."""
        with self._turn:
            kept = self._kept.get(name)
            if kept is None:
                return None
            self._kept.move_to_end(name)
            return kept.value

    def put(self, name: Name, stamp: str, value: Any, held: Held, *, dear: bool = False) -> None:
        """Remember a value, and forget others where it is too much; the one put last is kept, however large.

        Args:
            name: Its name.
            stamp: What the run was like.
            value: The value.
            held: Its memory, see ``held_by``.
            dear: It was read from disk: forgotten after what was not.
        """
        with self._turn:
            self._kept[name] = _Kept(stamp, value, held, dear)
            self._kept.move_to_end(name)
            while len(self._kept) > 1 and self._bytes() > self.most_bytes:
                others = [other for other in self._kept if other != name]
                del self._kept[next((other for other in others if not self._kept[other].dear), others[0])]

    def drop(self, unwanted: Callable[[Name, str], bool]) -> None:
        """Forget some, told by name and stamp."""
        with self._turn:
            for name in [name for name, kept in self._kept.items() if unwanted(name, kept.stamp)]:
                del self._kept[name]

    def held_bytes(self) -> int:
        """Bytes of all that is remembered; memory that several share counts once."""
        with self._turn:
            return self._bytes()

    def _bytes(self) -> int:
        together: Held = {}
        for kept in self._kept.values():
            together.update(kept.held)
        return sum(together.values())


def held_by(*arrays: NDArray | pa.Array | None) -> Held:
    """The memory behind some arrays.

    Args:
        arrays: numpy or Arrow arrays; views count as what they are views of.

    Returns:
        Bytes by address.
    """
    found: Held = {}
    for array in arrays:
        if isinstance(array, pa.Array):
            found |= {buffer.address: buffer.size for buffer in array.buffers() if buffer is not None}
        elif array is not None:
            while isinstance(array.base, np.ndarray):
                array = array.base
            found[array.__array_interface__["data"][0]] = array.nbytes
    return found


def name_of(kind: str, folder: Path, *which: Hashable) -> Name:
    """Name of a thing on the shelf."""
    return kind, folder.absolute(), *which


shelf = Shelf(384 << 20)  # three runs of a million images under three or four conventions
