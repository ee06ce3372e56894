"""Bounded memory for images that are decoded side by side: together they hold no more pixels than one image may have.

Within ``shared_room`` a thread that opens an image waits until those of other threads leave room for it, and keeps its
room until the block ends. Threads are served in the order in which they asked, so that a large image is not passed over
for ever. Images of up to a megapixel need none.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

FREE_PIXELS = 1_000_000


class Room:
    """A number of pixels that threads share.

    Args:
        pixels: How many.
    """

    def __init__(self, pixels: int) -> None:
        self._left = self._all = pixels
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._own = threading.local()

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Give back at the end of a block what this thread took within it."""
        if getattr(self._own, "taken", None) is not None:  # a block within a block is part of it
            yield
            return
        self._own.taken = 0
        try:
            yield
        finally:
            taken, self._own.taken = self._own.taken, None
            with self._changed:
                self._left += taken
                self._changed.notify_all()

    def take(self, pixels: int) -> None:
        """Wait for room, within ``shared``; elsewhere, and within it for the second image, do nothing.

        Args:
            pixels: Of an image; more than there are count as all of them.
        """
        if getattr(self._own, "taken", None) != 0 or pixels <= FREE_PIXELS:
            return
        wanted, ticket = min(pixels, self._all), object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket and self._left >= wanted)
            self._waiting.popleft()
            self._left -= wanted
            self._changed.notify_all()
        self._own.taken = wanted
