"""Give freed memory back to the system after something large was read; allocators keep it otherwise."""

import contextlib
import ctypes

import pyarrow as pa


def release() -> None:
    """Give back what Arrow and the C library hold for nothing; a few milliseconds, and harmless where it cannot."""
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):  # a C library other than GNU's
        ctypes.CDLL(None).malloc_trim(0)
