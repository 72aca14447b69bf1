"""Distance of the latent to that of a single-task teacher."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register


@register
class TeacherLatent(Objective):
    """Mean absolute difference of latents with the single-task network of the task (after Chen et al., CVPR 2022).

    The channel vector of each position is scaled to length 1 in both latents. It is the loss of features next to the
    curriculum `two_stage` with `first: teachers`; `stages: [first]` restricts it to that stage.

    Departure: the authors project four levels of features by learnt convolutions, because their teachers have another
    architecture. Teachers here have the student's.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"latent", "teacher:single"})
    cost: ClassVar[Cost] = Cost(backward_passes="0", forward_passes="1 of a teacher", memory="P per task: teachers")

    weight: float = Field(1.0, ge=0)
    """w: factor of this objective next to the base objective."""

    _teachers: dict[str, nn.Module] = PrivateAttr(default_factory=dict)

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        found = {}
        for row, batch in batches.items():
            if len(batch.ids):
                output = learner.restore(batch, self._teacher(batch.task, learner))
                found[row] = Constants(row, {"teacher": output.features["latent"]})
        return found

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        own, teacher = (_unit(one.float()) for one in (output.features["latent"], constants.per_sample["teacher"]))
        return (own - teacher).abs().flatten(1).mean(1)

    def _teacher(self, task: str, learner: Learner) -> nn.Module:
        """Return the teacher of a task as a network that returns its latent."""
        if task not in self._teachers:
            network: Any = copy.deepcopy(learner.model).requires_grad_(False).eval()
            network.load_state_dict({**network.state_dict(), **learner.teacher(task).state_dict()})
            network.returns_features = True
            self._teachers[task] = network
        return self._teachers[task]


def _unit(latent: Tensor) -> Tensor:  # [B, C, h, w] or [B, N, C]
    return F.normalize(latent, dim=1 if latent.dim() == 4 else 2)
