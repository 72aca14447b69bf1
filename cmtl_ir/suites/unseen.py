"""The suite `unseen`: levels outside the training range that the literature tests, and untrained degradations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmtl_ir.strategy import registry
from cmtl_ir.suites.blocks import UNTRAINED
from cmtl_ir.suites.line import Line
from cmtl_ir.suites.ranges import block_of
from cmtl_ir.tasks.config import TaskConfig

NAME = "unseen"
HARD: dict[str, tuple[dict[str, Any], ...]] = {
    "gaussian_blur": ({"sigma": (3.0, 5.0)},),
    "gaussian_noise": tuple({"sigma": (sigma,), "quantise": "round"} for sigma in (50.0, 60.0, 70.0)),
    "haze": ({"beta": (2.5, 3.0)},),
    "jpeg": ({"quality": (10, 30)},),
    "low_light": ({"gamma": (3.0, 4.0)},),
    "rain_streaks": ({"density": (0.004, 0.006)},),
}
"""MiOIR's hard test ranges (Kong et al. 2024). Its noise is drawn from 50..70; here three levels stand for it."""
SIGMAS = tuple({"sigma": (sigma,), "quantise": "floor"} for sigma in (5.0, 60.0, 75.0, 100.0))
"""Noise levels of IDR, Perceive-IR and ABAIR, clipped and truncated to 8 bits as AirNet and PromptIR do."""
CLIPPING = (
    "noise is clipped to 0..255 and stored in 8 bits: truncated for sigma 5, 60, 75, 100 (AirNet, PromptIR), rounded "
    "for MiOIR hard. Tables of unclipped noise differ by decibels at sigma 100"
)
LEFT_OUT = ("composition", "jpeg_fast")
"""Degradations that are no kind of their own: `composition` has suites of its own, `jpeg_fast` is `jpeg`."""


def lines(trained: Mapping[str, TaskConfig], others: Mapping[str, TaskConfig]) -> list[Line]:
    """Return the lines of a run. `others` are tasks of its experiment that it was not trained on."""
    used = {task.degradation.called for task in [*trained.values(), *others.values()] if task.degradation}
    kinds = [name for name in registry.names("degradation") if name not in {*used, *LEFT_OUT}]
    shipped = {name: TaskConfig.model_validate({"degradation": name}) for name in kinds}
    return [
        *(line for name, task in trained.items() for line in _levels(name, task)),
        *(Line(NAME, name, "not trained", UNTRAINED, task) for name, task in {**others, **shipped}.items()),
    ]


def _levels(name: str, task: TaskConfig) -> list[Line]:
    """Return the lines of a trained task at published levels; its other fields are those of the run."""
    trained = task.degradation
    if trained is None:
        return []
    found = [("MiOIR hard", fields) for fields in HARD.get(trained.called, ())]
    found += [("published", fields) for fields in SIGMAS if trained.called == "gaussian_noise"]
    made = []
    for source, fields in found:
        tested = trained.model_copy(update=fields)
        field, value = next(iter(fields.items()))
        said = f"{source}, {field} {'..'.join(f'{one:g}' for one in value)}"
        config = task.model_copy(update={"degradation": tested})
        made.append(Line(NAME, name, said, block_of(tested, trained), config, given=name))
    return made
