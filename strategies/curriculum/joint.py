"""Training on all tasks at once, from the first step to the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.record import OmitIfDefault
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
    without: Annotated[tuple[str, ...], OmitIfDefault()] = ()
    """Tasks that are left out of training, and tested all the same: leave-one-degradation-out."""

    mixture: Annotated[dict[str, Annotated[float, Field(gt=0)]], OmitIfDefault()] = Field({})
    """Task -> its share of the batch, in any unit. Tasks that are missing are not trained. {}: as `balance` says."""

    def named_tasks(self) -> Sequence[str]:
        return (*self.without, *self.mixture)

    def next_stage(self, history: History) -> Stage | None:
        """Return one stage with the whole budget, then `None`. Raise ConfigError if no task is left to train on."""
        if history.stages:
            return None
        tasks = [task for task in self.mixture or history.all_tasks if task not in self.without]
        if not tasks:
            raise ConfigError("curriculum.without: leaves no task to train on; keep one or more")
        amounts = {task: self.mixture[task] for task in tasks} if self.mixture else {}
        if not amounts and self.balance == "by_size":
            amounts = {task: history.dataset_sizes[task] for task in tasks}
        mixture = shares(amounts) if amounts else uniform(tasks)
        return Stage("joint", mixture, history.steps, cycles=self.cycles)
