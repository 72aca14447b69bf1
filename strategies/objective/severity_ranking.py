"""Ranking of the qualities of images that a network estimates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner, Stage, StepContext
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._contrast import other_ids
from ._estimates import estimates, refuse_without_estimates
from .curricular_cr import psnr

BEST, SCALE = 50.0, 5.0


@register
class SeverityRanking(Objective):
    """Marginal ranking of the estimated quality of two degraded images (UtilityIR, Chen and Pei, 2023).

    With d the difference of the estimates and t that of 5 (1 - min(PSNR, 50) / 50), e = |t - d| counts in full where
    e >= |t| + |d|, that is where the order is wrong, and max(0, e - `margin`) otherwise. The second image is a sample
    of the next task of the run. For networks with `estimates`: utilityir.

    Departure: the estimate of the second image is a constant.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "own_features"})
    cost: ClassVar[Cost] = Cost(backward_passes="0", forward_passes="1 of the degradation encoder")

    weight: float = Field(0.03, ge=0)
    """w: factor of this objective next to the base objective; 0.3 next to the authors' 10 L1."""
    margin: float = Field(0.3, ge=0)
    """Error that is allowed where the order is right."""

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Raise ConfigError if the backbone does not estimate degradations."""
        refuse_without_estimates(self.label, learner)

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        found = {}
        for row, batch in batches.items():
            if len(batch.ids):
                following = learner.tasks[(learner.tasks.index(batch.task) + 1) % len(learner.tasks)]
                other = learner.batch(following, other_ids(batch.ids, context.key(self.label, row)))
                estimated = estimates(other, learner)["quality"]
                found[row] = Constants(row, {"estimated": estimated, "true": grade(other)})
        return found

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        estimated = output.features["quality"].float() - constants.per_sample["estimated"]
        true = grade(batch) - constants.per_sample["true"]
        error = (true - estimated).abs()
        wrong = error >= true.abs() + estimated.abs()
        return torch.where(wrong, error, (error - self.margin).clamp_min(0))


def grade(batch: Batch) -> Tensor:
    """Return how degraded each image of a batch is, [B]: 0 from a PSNR of 50 dB on, 5 at 0 dB."""
    return SCALE * (1 - psnr(batch.degraded, batch.clean).clamp(max=BEST) / BEST)
