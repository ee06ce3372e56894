"""Datasets that change while they are read: files that are written anew, or taken away."""

import math
import time
from dataclasses import dataclass, field

_CLOCK_S = 60.0  # how far the clock of a file server may be ahead; a file of next year is no file of today


@dataclass
class Watch:
    """Counts images whose files are newer than a run, with as many bytes as were listed: only their time tells.

    Attributes:
        since: When the run began, seconds since 1970; infinity watches nothing.
        seen: Numbers of the images that were read and are newer.
    """

    since: float = math.inf
    seen: set[int] = field(default_factory=set)

    def note(self, index: int, written: float) -> None:
        """Judge an image that is read.

        Args:
            index: Its number.
            written: When its file was written, seconds since 1970.
        """
        if self.since < written < time.time() + _CLOCK_S:
            self.seen.add(index)


def gone(what: str, they_are: str) -> str:
    """One sentence on images that were there when they were listed.

    Args:
        what: Which, such as a file's name.
        they_are: ``they are`` or ``it is``.

    Returns:
        The sentence.
    """
    return f"{what} cannot be reached any more; what is scored is kept. Ask again once {they_are} back."
