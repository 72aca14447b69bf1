"""The suite `severity`: every trained degradation at its five severities, on the images of the ordinary test."""

from __future__ import annotations

from collections.abc import Mapping

from cmtl_ir.suites.line import Line
from cmtl_ir.suites.ranges import block_of
from cmtl_ir.tasks.config import TaskConfig
from cmtl_ir.tasks.degradations._graded import LEVELS, Graded
from cmtl_ir.tasks.degradations.composition import Composition

NAME = "severity"


def lines(tasks: Mapping[str, TaskConfig]) -> list[Line]:
    """Return five lines for each task whose degradation has severities; its other fields are at their defaults.

    `tasks` are the trained ones. Whether a level is inside their range is computed from them.
    """
    return [
        Line(NAME, name, f"severity {level}", block_of(tested, task.degradation), _with(task, tested), level, name)
        for name, task in tasks.items()
        if isinstance(task.degradation, Graded)
        for level in LEVELS
        for tested in [at_level(task.degradation, level)]
    ]


def at_level(trained: Graded, level: int) -> Graded:
    """Return the degradation of a trained one's kind at a severity."""
    if isinstance(trained, Composition):
        tested: Graded = Composition.at_severity(level, parts=trained.parts, order=trained.order)
    else:
        tested = type(trained).at_severity(level)
    tested.call_it(trained.called)
    return tested


def _with(task: TaskConfig, degradation: Graded) -> TaskConfig:
    return task.model_copy(update={"degradation": degradation})
