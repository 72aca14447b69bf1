"""Cost of the optimizer steps of a run, without the evaluations, logs and checkpoints between them."""

from __future__ import annotations

import time
from typing import Any

import torch


class Meter:
    """A meter of the wall time of steps, and on CUDA of the peak memory of tensors.

    The peak on a CPU is not measured, because a process keeps memory that an earlier run needed.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.peak: int | None = None
        """Peak memory in bytes. `None` if it was not measured."""
        self.resume()

    def resume(self) -> None:
        """Start measuring before a step."""
        self._since = time.monotonic()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def pause(self) -> None:
        """Stop measuring after a step."""
        self.seconds += time.monotonic() - self._since
        if self.device.type == "cuda":
            self.peak = max(self.peak or 0, torch.cuda.max_memory_allocated(self.device))

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"seconds": self.seconds, "peak": self.peak}

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from the state of a checkpoint."""
        self.seconds, self.peak = state["seconds"], state["peak"]
        self.resume()
