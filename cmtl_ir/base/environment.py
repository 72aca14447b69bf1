"""The environment of a computation: versions, device, commit.

It is recorded with every run and is not part of any run's identity.
"""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cmtl_ir.base.version import __version__


def environment(device: torch.device) -> dict[str, Any]:
    """Return versions, commit, device and threads as plain data, for a run's config.yaml and result.json."""
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
    """Return the commit of the checkout that this package is imported from, or `None` if it is installed without one.

    The current folder does not matter. A repository that merely contains the environment of an installed package, as in
    `.venv/lib`, is not its checkout.
    """
    package = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(package), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != 2 or Path(lines[0]).resolve() != package.parent:
        return None
    return lines[1]


CORES = "CMTL_IR_CORES"
"""Environment variable: number of cores that this process may use when other workers share the machine."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get(CORES, free))
