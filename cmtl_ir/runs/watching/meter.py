"""Cost of the optimizer steps of a run, without the evaluations, logs and checkpoints between them."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

import torch

from cmtl_ir.base import memory
from cmtl_ir.training.passes import Passes


class Meter:
    """A meter of the time, passes and memory of steps.

    Wall time depends on what else the machine does. The CPU time of the process, over all its threads, depends on it
    much less. On a GPU, CUDA events measure the time of the steps on the device. The peak of memory is that of tensors
    on a GPU, or else the resident memory of the whole process.
    """

    def __init__(self, device: torch.device, passes: Passes) -> None:
        self.device, self.passes = device, passes
        self.seconds = self.cpu_seconds = 0.0
        """Wall time, and CPU time of all threads of the process."""
        self.forward = self.backward = 0
        """Samples that passed through the network in each direction."""
        self.peak: int | None = None
        """Peak memory in bytes. `None` if it was not measured."""
        self._cuda_seconds = 0.0
        self._pending: deque[tuple[Any, Any]] = deque()
        if device.type == "cpu":
            memory.return_freed_memory()  # of earlier runs of this process
        self.resume()

    @property
    def cuda_seconds(self) -> float | None:
        """Time between the CUDA events around each step. `None` on other devices. Waits for the device."""
        if self.device.type != "cuda":
            return None
        self._collect(wait=True)
        return self._cuda_seconds

    def resume(self) -> None:
        """Start measuring before a step."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._begin = self._event()
        else:
            memory.reset_peak()
        self._passed = self.passes.forward, self.passes.backward
        self._since, self._cpu_since = time.monotonic(), time.process_time()

    def pause(self) -> None:
        """Stop measuring after a step."""
        self.seconds += time.monotonic() - self._since
        self.cpu_seconds += time.process_time() - self._cpu_since
        self.forward += self.passes.forward - self._passed[0]
        self.backward += self.passes.backward - self._passed[1]
        if self.device.type == "cuda":
            self._pending.append((self._begin, self._event()))
            self._collect(wait=False)
            peak: int | None = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = memory.peak_resident()
        self.peak = max(self.peak or 0, peak) if peak is not None else self.peak

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _collect(self, wait: bool) -> None:
        """Add up the steps that the device has finished. With `wait`, wait for the last one."""
        if wait and self._pending:
            self._pending[-1][1].synchronize()
        while self._pending and self._pending[0][1].query():
            begin, end = self._pending.popleft()
            self._cuda_seconds += begin.elapsed_time(end) / 1e3

    def costs(self) -> dict[str, Any]:
        """Return the costs as a result holds them. `None` if a resumed checkpoint did not have them."""
        known = math.isfinite(self.cpu_seconds)
        cuda = self.cuda_seconds
        return {
            "step_seconds": self.seconds,
            "step_cpu_seconds": self.cpu_seconds if known else None,
            "step_cuda_seconds": cuda if cuda is not None and math.isfinite(cuda) else None,
            "samples_forward": self.forward if known else None,
            "samples_backward": self.backward if known else None,
            "peak_memory_bytes": self.peak,
        }

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "cuda_seconds": self.cuda_seconds,
            "forward": self.forward,
            "backward": self.backward,
            "peak": self.peak,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from the state of a checkpoint. CPU time is NaN from then on if an older version wrote it."""
        self.seconds, self.peak = state["seconds"], state["peak"]
        self.cpu_seconds = state.get("cpu_seconds", math.nan)
        self._cuda_seconds = state.get("cuda_seconds", math.nan) or 0.0
        self.forward, self.backward = state.get("forward", 0), state.get("backward", 0)
        self._pending.clear()
        self.resume()
