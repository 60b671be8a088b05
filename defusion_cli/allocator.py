"""Keeping freed memory, so that the next picture need not wait for fresh pages of the kernel; and giving it back."""

from __future__ import annotations

import ctypes
from functools import lru_cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
_KEEP_BYTES = 256 * 2**20
_LARGEST_BYTES = 32 * 2**20  # the GNU C library accepts no more


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let malloc keep up to 256 MB that this process has freed; False where the C library knows no such thing.

    A float32 picture of 512×512 has 3 MB. The GNU C library hands blocks of that size back to the kernel as soon as
    they are freed, and the next picture pays for 770 page faults an array, 2 ms: a third of the time of most plugins.
    Numpy, OpenCV and torch on a CPU all allocate through malloc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))


def give_memory_back() -> None:
    """Hand all memory that this process has freed to the kernel, where the C library can.

    What a thread has freed stays with that thread's part of the heap: after a picture of 200 megapixels was decoded by
    Pillow, 0.8 GB, whatever `keep_freed_memory` allows.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
