"""Training on all tasks at once, from the first step to the last."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.strategy.registry import register

from ._stages import shares, uniform


@register
class Joint(Curriculum):
    """Mixed training on all tasks in one stage, the common baseline, under two definitions.

    Tables in the literature mean either of them, so report which one is used.
    """

    balance: Literal["equal", "by_size"] = "equal"
    """equal: every task gets the same share of samples (AirNet, IDR); by_size: in proportion to data-set size times
    repeats (PromptIR)."""
    cycles: int = Field(1, ge=1)
    """Number of cosine cycles of the learning rate, with one optimizer throughout. MiOIR's mixed baseline has 10."""

    def next_stage(self, history: History) -> Stage | None:
        """Return one stage with the whole budget, then `None`."""
        if history.stages:
            return None
        sizes = {task: history.dataset_sizes[task] for task in history.all_tasks} if self.balance == "by_size" else None
        mixture = shares(sizes) if sizes else uniform(history.all_tasks)
        return Stage("joint", mixture, history.steps, cycles=self.cycles)
