"""Give freed memory back to the system after something large was read; allocators keep it otherwise."""

import contextlib
import ctypes

import pyarrow as pa

_M_MMAP_THRESHOLD = -3  # of GNU's malloc.h


def release() -> None:
    """Give back what Arrow and the C library hold for nothing; a few milliseconds, and harmless where it cannot."""
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # a C library other than GNU's
        ctypes.CDLL(None).malloc_trim(0)


def keep_large_blocks_apart() -> None:
    """Let the C library take blocks of a megabyte and more from the system and give them back as soon as they are free.

    By itself it soon puts blocks of up to 32 MB among small ones, and a server that reads large runs grows by what
    lies between. Harmless where it cannot.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)
