"""Classification of the degradation from the latent of any network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ._classes import Pooled, smoothed_cross_entropy


@register
class DegradationClass(Objective):
    """Cross-entropy of a linear classifier of the task on the latent (IDR, Zhang et al., CVPR 2023).

    The classifier reads the mean of the latent over positions. The true class counts 1 - `smoothing`, and each of
    the other T - 1 classes smoothing / (T - 1). It is the baseline of every contrast in the latent. In a run of one
    task the term is 0.

    Departure: the authors give the whole batch the label of its first sample.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"latent"})

    weight: float = Field(0.01, ge=0)
    """w: factor of this objective next to the base objective."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target that the wrong classes have together."""

    def head(self, channels: int, tasks: Sequence[str]) -> nn.Module:
        return nn.Sequential(Pooled(), nn.Linear(channels, len(tasks)))

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        return {
            row: Constants(row, {"task": torch.full_like(batch.ids, learner.tasks.index(batch.task))})
            for row, batch in batches.items()
        }

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        logits = output.features[self.label].float()
        task = constants.per_sample["task"].to(logits.device)
        return smoothed_cross_entropy(logits.log_softmax(1)[:, None], task, self.smoothing)
