"""Frozen old weights with small experts for later tasks, mixed per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from cmtl_ir.strategy.data import Learner, Stage
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.tasks import own_tasks
from .distill import Distill


@register
class LIRA(Distill):
    """LIRA (Liu et al., ECCV 2020): a base network, an expert per later task, a gate over them. From the abstract only.

    [ours]: the base is the first stage's network, frozen afterwards. Every later stage with a new task trains one
    expert and the gate. An expert has a zero-initialised 1x1 adapter after each block. The gate is a softmax over base
    and experts from pooled middle features. The loss is the new task's loss plus distillation from the mixture at the
    stage's start on remembered inputs, as in `distill`.
    """

    cost: ClassVar[Cost] = Cost(
        backward_passes="1, and a second forward pass for the gate", memory="P: the previous network; experts; ids"
    )

    rank: int = Field(8, ge=1)
    """Number of channels inside an adapter."""

    def backbone(self, fields: Mapping[str, Any], tasks: Sequence[str]) -> Mapping[str, Any]:
        """Return the run's backbone with room for one expert per task after the first."""
        return {"name": "adapted", "of": dict(fields), "experts": max(1, len(tasks) - 1), "rank": self.rank}

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Keep a copy of the mixture, then open an expert if the stage has a new task."""
        super().begin_stage(stage, learner)
        seen = self.state.setdefault("seen", [])
        new = [task for task in own_tasks(stage) if task not in seen]
        self.state["live"] = self.state.get("live", 0) + bool(seen and new)
        seen += new
        network: Any = learner.model
        network.open(self.state["live"])

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Freeze the parameters that this stage does not train."""
        for name, parameter in learner.model.named_parameters():
            parameter.requires_grad_(self._trains(name))

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Unfreeze, so that the next stage's optimizer holds the same parameters as in a resumed run."""
        super().end_stage(stage, learner)
        learner.model.requires_grad_(True)

    def _trains(self, name: str) -> bool:
        """Return whether the current stage trains the parameter of that name."""
        live = self.state["live"]
        if ".experts." not in name and not name.startswith("gate."):
            return live == 0
        return live > 0 and (name.startswith("gate.") or f".experts.{live - 1}." in name)
