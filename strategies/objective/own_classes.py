"""Classification of the degradation by the network's own classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ._classes import smoothed_cross_entropy

PROBABILITIES, LOGITS = "classes", "degradation"


@register
class OwnClasses(Objective):
    """Cross-entropy of the task among the classes that the network finds (IDR, Zhang et al., CVPR 2023).

    For networks whose `forward_features` returns "classes", probabilities [B, D, T] at D places, or "degradation",
    logits [B, T]: idr and uwadn. It is added over the places. The true class counts 1 - `smoothing`, each of the other
    T - 1 classes smoothing / (T - 1). Published: idr weight 0.01 and smoothing 0.1; uwadn weight 0.1 and smoothing 0.

    Raise UserError for a task whose number is not below T.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "own_features"})

    weight: float = Field(0.01, ge=0)
    """w: factor of this objective next to the base objective."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target that the wrong classes have together."""

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        return {
            row: Constants(row, {"task": torch.full_like(batch.ids, learner.tasks.index(batch.task))})
            for row, batch in batches.items()
        }

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        logarithms = _log_probabilities(output)  # [B, D, T]
        task, count = constants.per_sample["task"].to(logarithms.device), logarithms.shape[2]
        if len(task) and int(task.max()) >= count:
            raise UserError(f"own_classes: task number {int(task.max())}, but the network has {count} classes")
        return smoothed_cross_entropy(logarithms, task, self.smoothing)


def _log_probabilities(output: Output) -> Tensor:  # [B, D, T]
    if PROBABILITIES in output.features:
        return output.features[PROBABILITIES].float().clamp_min(1e-12).log()
    return output.features[LOGITS].float().log_softmax(1)[:, None]
