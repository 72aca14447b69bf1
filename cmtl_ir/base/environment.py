"""Where a result was computed: versions, device, commit. Recorded with every run, part of no identity."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from typing import Any

import torch

from cmtl_ir.base.version import __version__


def environment(device: torch.device) -> dict[str, Any]:
    """Plain facts for a run's config.yaml and result.json."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "version": __version__,
        "commit": git_commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": name,
        "threads": torch.get_num_threads(),
    }


@cache
def git_commit() -> str | None:
    """The commit of the repository that the command runs in; None outside of one."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


CORES = "CMTL_IR_CORES"
"""Environment variable: how many cores are this process's, where others work beside it."""


def cores() -> int:
    """Cores that this process may use."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get(CORES, free))
