"""Training on one task alone."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from cmtl_ir.base.errors import ConfigError, suggestion
from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.strategy.registry import register


@register
class Single(Curriculum):
    """Training on one task alone, the reference for an upper bound."""

    task: str
    """Name of the task."""
    cycles: int = Field(1, ge=1)
    """Number of cosine cycles of the learning rate, with one optimizer throughout."""

    def named_tasks(self) -> Sequence[str]:
        return (self.task,)

    def next_stage(self, history: History) -> Stage | None:
        """Return one stage with the whole budget, then `None`. Raise ConfigError if the run has no such task."""
        if self.task not in history.all_tasks:
            raise ConfigError(
                f"curriculum.task: there is no task {self.task!r}; {suggestion(self.task, list(history.all_tasks))}"
            )
        if history.stages:
            return None
        return Stage(self.task, {self.task: 1.0}, history.steps, cycles=self.cycles)
