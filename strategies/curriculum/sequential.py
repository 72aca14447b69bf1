"""Training on one task after another, without protection of earlier tasks."""

from __future__ import annotations

from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.registry import register

from ._order import OrderedCurriculum
from ._stages import split


@register
class Sequential(OrderedCurriculum):
    """Fine-tuning from task to task, one stage each with a fresh optimizer and schedule: the baseline of forgetting."""

    def plan(self, history: History) -> list[Stage]:
        """Return one stage of steps / K steps per task."""
        order = self.ordered(history)
        lengths = split(history.steps, [1] * len(order))
        return [Stage(t, {t: 1.0}, n, fresh_optimizer=True) for t, n in zip(order, lengths, strict=True)]
