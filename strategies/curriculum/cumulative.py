"""A growing union of tasks: MiOIR's sequential learning."""

from __future__ import annotations

from pydantic import Field

from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.registry import register

from ._order import OrderedCurriculum
from ._stages import split, uniform


@register
class Cumulative(OrderedCurriculum):
    """MiOIR's sequential learning (Kong, Dong, Zhang 2024, arXiv 2401.03379): stage i mixes tasks 1..i uniformly.

    There are K - 1 short stages of L steps and a last one of 4 L steps, with 4 restarts of the learning rate only.
    Every stage has a fresh optimizer. The whole budget is (K + 3) L. The first task is seen most, and `mixed_matched`
    is the control for that.
    """

    last: int = Field(4, ge=1)
    """Length of the last stage in units of a short stage."""
    restarts: int = Field(4, ge=1)
    """Number of cosine cycles of the last stage, which has one optimizer throughout."""

    def plan(self, history: History) -> list[Stage]:
        """Return one stage per task, named after the task that joins."""
        order = self.ordered(history)
        lengths = split(history.steps, [1] * (len(order) - 1) + [self.last])
        return [
            Stage(
                task,
                uniform([*history.learned, *order[: i + 1]]),
                steps,
                fresh_optimizer=True,
                cycles=self._cycles(i, order),
            )
            for i, (task, steps) in enumerate(zip(order, lengths, strict=True))
        ]

    def _cycles(self, i: int, order: list[str]) -> int:
        return self.restarts if i == len(order) - 1 else 1
