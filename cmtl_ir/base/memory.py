"""Memory of the process: freed blocks are kept for the next step instead of being handed back to the system."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from pathlib import Path

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


def return_freed_memory() -> None:
    """Hand freed memory back to the system, so that it does not count as memory of what follows. glibc only."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def reset_peak() -> bool:
    """Start a new peak of the process's resident memory; return whether the system can (Linux, proc(5): clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_resident() -> int | None:
    """Return the largest resident memory of the process in bytes since the last reset. `None` if it is not known.

    Where the peak cannot be reset, it is the resident memory now: freed memory is kept, see `keep_freed_memory`.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{'VmHWM' if _can_reset() else 'VmRSS'}:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


@cache
def _can_reset() -> bool:
    return reset_peak()
