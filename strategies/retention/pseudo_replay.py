"""Old degradations on new images, with the previous network's outputs as targets."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.teacher import distillation, network_of, weights_now
from .degradation_replay import DegradationReplay


@register
class PseudoReplay(DegradationReplay):
    """Pseudo-rehearsal (Robins 1995) on inputs of `degradation_replay`; the targets are f_prev(x) [ours].

    f_prev is the network at the stage's start. No old target is needed, and the network learns nothing that it did not
    know before.
    """

    cost: ClassVar[Cost] = Cost(memory="P: the previous network, and its forward pass")

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Keep a copy of the network if there are old tasks."""
        super().begin_stage(stage, learner)
        self.state["previous"] = weights_now(learner) if self.state["seen"] else None

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return `memory:TASK` for every old task, with the frozen network's outputs as targets."""
        rows = super().rows(stage, learner)
        if not rows or self.strength == 0:
            return rows
        loss = distillation(learner, network_of(learner, self.state["previous"]))
        return [replace(row, loss=loss) for row in rows]
