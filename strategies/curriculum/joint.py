"""All tasks at once, from the first step to the last."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.strategy.registry import register

from ._stages import shares, uniform


@register
class Joint(Curriculum):
    """Mixed training on all tasks in one stage: everybody's baseline, under two definitions.

    Tables in the literature mean either; name the one that is used.
    """

    balance: Literal["equal", "by_size"] = "equal"
    """equal: every task the same share of samples (AirNet, IDR); by_size: by data-set size times repeats (PromptIR)."""
    cycles: int = Field(1, ge=1)
    """Cosine cycles of the learning rate, one optimizer throughout; MiOIR's mixed baseline has 10."""

    def next_stage(self, history: History) -> Stage | None:
        """One stage with the whole budget."""
        if history.stages:
            return None
        sizes = {task: history.dataset_sizes[task] for task in history.tasks} if self.balance == "by_size" else None
        mixture = shares(sizes) if sizes else uniform(history.tasks)
        return Stage("joint", mixture, history.steps, cycles=self.cycles)
