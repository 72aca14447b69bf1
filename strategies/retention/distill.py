"""Distillation that preserves the network's outputs on old inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.tasks import own_tasks
from ..shared.teacher import distillation, network_of, weights_now
from ._memory import Remembering


@register
class Distill(Remembering):
    """Learning without forgetting (Li and Hoiem, ECCV 2016, Fig. 3) on images: lambda l(f(x), f_prev(x)).

    f_prev is the network at the stage's start. The method protects on old inputs, from a memory of ids as in `replay`.
    `inputs: new` is the published form and a negative control here. The previous network's output for a degradation
    that it never saw contradicts the target (measured: backward transfer -5.3 dB against -6.5 of sequential).
    """

    cost: ClassVar[Cost] = Cost(memory="P: the previous network, and its forward pass; ids of `capacity` samples")

    inputs: Literal["old", "new"] = "old"
    """Inputs x: remembered samples of old tasks, or the stage's own stream."""
    strength: float = Field(1.0, ge=0)
    """lambda: weight of the distillation loss."""

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Keep a copy of the network if there are old tasks."""
        super().begin_stage(stage, learner)
        self.state["previous"] = weights_now(learner) if self.memory.kept else None

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return `memory:TASK` per old task or, under `inputs: new`, `distill:TASK` per task of the stage."""
        if self.state["previous"] is None or self.strength == 0:
            return []
        rows = self.memory_rows(stage, self.share, self.strength)
        if self.inputs == "new":
            new = own_tasks(stage)
            rows = [Row(f"distill:{task}", task, self.share / len(new), self.strength) for task in new]
        loss = distillation(learner, network_of(learner, self.state["previous"]))
        return [replace(row, loss=loss) for row in rows]
