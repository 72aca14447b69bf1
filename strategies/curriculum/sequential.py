"""One task after the other, nothing kept."""

from __future__ import annotations

from cmtl_ir.registry import register
from cmtl_ir.strategy import History, Stage

from ._order import OrderedCurriculum
from ._stages import split


@register
class Sequential(OrderedCurriculum):
    """Fine-tuning from task to task, one stage each, fresh optimizer and schedule: the forgetting baseline."""

    def next_stage(self, history: History) -> Stage | None:
        """Stage i is task i alone, with steps / K steps."""
        done = len(history.stages)
        if done == len(history.tasks):
            return None
        task = self.ordered(history)[done]
        steps = split(history.steps, [1] * len(history.tasks))[done]
        return Stage(task, {task: 1.0}, steps, fresh_optimizer=True)
