"""One line of a suite: a test set, and where it lies relative to what a run was trained on."""

from __future__ import annotations

from dataclasses import dataclass

from cmtl_ir.tasks.config import TaskConfig


@dataclass(frozen=True)
class Line:
    """A test set of a suite."""

    suite: str
    task: str
    """Name that keys the random numbers: that of a trained task where there is one, so that images and draws are those
    of the ordinary test."""
    name: str
    """What is tested, such as `severity 3`."""
    block: str
    config: TaskConfig
    level: int | None = None
    """Severity. `None`: the line is none of the five."""
    given: str | None = None
    """Trained task whose number a network is given that needs one, and whose single-task run is the reference.
    `None`: no trained task is part of the line."""
    noise: float = 0.0
    """Standard deviation, on the 0..255 scale, of noise that is added to the degraded image."""
