"""The clock by which the strategies of a study are compared: device time, CPU time, or wall time."""

from __future__ import annotations

from dataclasses import dataclass

from .study import Study


@dataclass(frozen=True)
class Clock:
    """A measure of the time per step."""

    column: str
    """Its column in the frame `cost`."""
    unit: str
    """Unit of a thousandth, as in headings."""
    meaning: str


CUDA = Clock("cuda_seconds_per_step", "GPU ms", "time between the CUDA events around an optimizer step")
CPU = Clock(
    "cpu_seconds_per_step", "CPU ms",
    "CPU time of the process in an optimizer step, summed over all its threads (under torchrun: of rank 0)",
)  # fmt: skip
WALL = Clock("seconds_per_step", "ms", "wall time, which depends on what else the machine did")


def clock_of(study: Study) -> Clock:
    """Return the clock that all competing runs have: CUDA events, or else CPU time, or else wall time.

    The CPU time of a run on a GPU is not its cost.
    """
    cost = study.frames.cost
    cost = cost[cost["label"].isin(study.labels)]
    if bool(cost[CUDA.column].notna().all()):
        return CUDA
    if bool(cost[CPU.column].notna().all()) and not bool(cost[CUDA.column].notna().any()):
        return CPU
    return WALL
