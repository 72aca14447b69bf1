"""Memory of the process: freed blocks are kept for the next step instead of being handed back to the system."""

from __future__ import annotations

import ctypes
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt, see malloc.h
KEPT = 1 << 30  # bytes: the largest block that is taken from the heap, and what the heap may keep free at its end


@cache
def keep_freed_memory() -> bool:
    """Make the allocator keep what tensors on the CPU free; return whether it understood.

    A training step allocates and frees the same tensors as the one before. By default glibc hands large ones back to
    the system each time, which then zeroes every page again: up to a quarter of a step's time. Values do not change.
    Fragments may raise the peak of memory by a few percent. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(TRIM_THRESHOLD, KEPT), mallopt(MMAP_THRESHOLD, KEPT)])
