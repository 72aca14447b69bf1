"""The small experiment whose whole runs are made by the sections that are not about single steps."""

from __future__ import annotations

from typing import Any

from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import merged
from tests import tiny
from tests.benchmarks.gpu.cases import Sizes

FULL: dict[str, Any] = {
    "data": {"patch": 64, "test_crop": None},
    "backbone": {"name": "nafnet", "width": 16, "encoder": [1, 1, 1, 4], "middle": 1, "decoder": [1, 1, 1, 1]},
    "training": {"batch": 12},
}
"""What the experiment of the tests becomes for a GPU: 64x64 crops, 12 samples per step."""


def experiment(sizes: Sizes, name: str, steps: int, strategies: dict[str, Any], **over: Any) -> Experiment:
    """Return the experiment with a number of steps. `over` is merged into it."""
    steady = {"training": {"steps": steps}, "evaluation": {"every": 0}, "conflict": {"every": 0}}
    raw = merged(merged({} if sizes.tiny else FULL, steady), over)
    return tiny.experiment(strategies, name=name, **raw)
