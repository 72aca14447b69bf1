"""How many processor cores this process may use."""

from __future__ import annotations

import os

CORES = "CMTL_IR_CORES"
"""Environment variable: how many cores are this process's, where others work beside it."""


def cores() -> int:
    """Cores that this process may use."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get(CORES, free))
