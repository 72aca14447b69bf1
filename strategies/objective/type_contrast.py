"""Contrast of the types of degradation that a network estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner, Stage, StepContext
from cmtl_ir.strategy.objective import Constants, Objective, pooled
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._contrast import other_ids
from ._estimates import estimates, refuse_without_estimates


@register
class TypeContrast(Objective):
    """Contrast of the type map with that of other images (UtilityIR, Chen and Pei, 2023).

    -log(e^(c_p / t) / (e^(c_p / t) + sum_j e^(c_j / t))), with c the cosine between the means of type maps over
    positions: c_p with another image of the task, c_j with `negatives` images of the other tasks. For networks with
    `estimates`: utilityir. In a run of one task it is 0.

    Departures: the estimates of the other images are constants. The mean over positions is a reading of the paper.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "own_features"})
    cost: ClassVar[Cost] = Cost(backward_passes="0", forward_passes="1 + `negatives` of the degradation encoder")

    weight: float = Field(0.05, ge=0)
    """w: factor of this objective next to the base objective; 0.5 next to the authors' 10 L1."""
    negatives: int = Field(4, ge=1)
    """Images of other tasks per sample."""
    temperature: float = Field(0.4, gt=0)
    """t: a small one weighs the nearest negatives most."""

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Raise ConfigError if the backbone does not estimate degradations."""
        refuse_without_estimates(self.label, learner)

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        found = {}
        for row, batch in batches.items():
            others = [task for task in learner.tasks if task != batch.task]
            if len(batch.ids):
                drawn = [batch.task, *(others[number % len(others)] for number in range(self.negatives) if others)]
                types = [
                    self._type(task, other_ids(batch.ids, context.key(self.label, row, number)), learner)
                    for number, task in enumerate(drawn)
                ]
                found[row] = Constants(row, {"types": torch.stack(types, 1)})
        return found

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        query = F.normalize(pooled(output.features["type"].float()), dim=1)
        cosines = (query[:, None] * constants.per_sample["types"]).sum(2)  # [B, 1 + negatives], the positive first
        return torch.logsumexp(cosines / self.temperature, 1) - cosines[:, 0] / self.temperature

    def _type(self, task: str, ids: Tensor, learner: Learner) -> Tensor:  # [B] -> [B, k], unit vectors
        return F.normalize(pooled(estimates(learner.batch(task, ids), learner)["type"]), dim=1)
