"""What the optimizer steps of a run cost; evaluations, logs and checkpoints between them do not count."""

from __future__ import annotations

import time
from typing import Any

import torch


class Meter:
    """Wall time of steps, and on CUDA the most memory that tensors held meanwhile.

    A CPU's peak is not taken: a process keeps memory that an earlier run in it needed.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.peak: int | None = None
        """Bytes; None: not measured."""
        self.resume()

    def resume(self) -> None:
        """Steps are taken from now on."""
        self._since = time.monotonic()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def pause(self) -> None:
        """A step has ended."""
        self.seconds += time.monotonic() - self._since
        if self.device.type == "cuda":
            self.peak = max(self.peak or 0, torch.cuda.max_memory_allocated(self.device))

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"seconds": self.seconds, "peak": self.peak}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.seconds, self.peak = state["seconds"], state["peak"]
        self.resume()
