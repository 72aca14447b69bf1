"""Old weights are frozen; each later task gets small experts beside them, mixed by the image."""

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
    """LIRA (Liu et al., ECCV 2020): a base network, an expert a later task, a gate over them. From the abstract only.

    [ours]: the base is the first stage's network, frozen afterwards. Every later stage with a new task trains one
    expert, 1x1 adapters of zero start after each block, and the gate: a softmax over base and experts from pooled
    middle features. The loss is the new task's, plus distillation from the mixture at the stage's start on remembered
    inputs, as in `distill`.
    """

    cost: ClassVar[Cost] = Cost(
        backward_passes="1, and a second forward pass for the gate", memory="P: the previous network; experts; ids"
    )

    rank: int = Field(8, ge=1)
    """Channels that an adapter goes through."""

    def backbone(self, fields: Mapping[str, Any], tasks: Sequence[str]) -> Mapping[str, Any]:
        """The run's backbone with room for an expert for every task after the first."""
        return {"name": "adapted", "of": dict(fields), "experts": max(1, len(tasks) - 1), "rank": self.rank}

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Keep the mixture as it is, then open an expert if there is a task to be learnt."""
        super().begin_stage(stage, learner)
        seen = self.state.setdefault("seen", [])
        new = [task for task in own_tasks(stage) if task not in seen]
        self.state["live"] = self.state.get("live", 0) + bool(seen and new)
        seen += new
        network: Any = learner.model
        network.open(self.state["live"])

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Freeze what this stage does not train."""
        for name, parameter in learner.model.named_parameters():
            parameter.requires_grad_(self._trains(name))

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Thaw, so that the next stage's optimizer holds the same parameters as a resumed run's."""
        super().end_stage(stage, learner)
        learner.model.requires_grad_(True)

    def _trains(self, name: str) -> bool:
        """Whether the stage at hand trains the parameter of that name."""
        live = self.state["live"]
        if ".experts." not in name and not name.startswith("gate."):
            return live == 0
        return live > 0 and (name.startswith("gate.") or f".experts.{live - 1}." in name)
