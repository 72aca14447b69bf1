"""Contrast with the same image restored under a wrong prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.features import distances
from ._contrast import EPSILON, Negatives


@register
class PromptContrast(Negatives):
    """Contrastive prompt learning (CPLIR, Wu et al., TPAMI 2025): `cr` whose negative is f(x, wrong prompt).

    The negative is the output of the network in training for the same image under the number of another task, drawn by
    a key of the sample. Only for backbones that read the task number, such as srresnet with `prompt: explicit`.

    Departure: the authors published the idea and inference code; the formula is that of `cr`.
    """

    cost: ClassVar[Cost] = Cost(backward_passes="0", forward_passes="1")

    weight: float = Field(0.1, ge=0)
    """w: factor of this objective next to the base objective."""
    floor: float = Field(0.1, ge=0)
    """Least denominator, relative to the distance of the clean from the degraded image; 0: none."""

    @property
    def needs(self) -> Any:  # type: ignore[override]
        """The output under another prompt, and what the features need."""
        return super().needs | {"prompt"}

    def negatives(self, batch: Batch, learner: Learner, context: StepContext, row: str) -> Mapping[str, Tensor]:
        others = [task for task in learner.tasks if task != batch.task]
        keys = keyed.keys_of(context.key(self.label, row), batch.ids.cpu())
        drawn = keyed.integers(keys, 0, len(others)).to(batch.degraded.device)
        found = torch.empty_like(batch.clean)
        for number, task in enumerate(others):
            here = drawn == number
            if bool(here.any()):
                part = Batch(task, batch.ids[here.to(batch.ids.device)], batch.degraded[here], batch.clean[here])
                found[here] = learner.restore(part).restored.to(found)
        return {"negatives": found[:, None]}

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        restored = self.maps(output.restored, batch.task)
        away = self.to_all(restored, constants.per_sample["negatives"], batch.task)[:, 0]
        if self.floor == 0:
            return self.space.total(self.numerator(restored, batch) / (away + EPSILON))
        clean, degraded = (self.constant_maps(image, batch.task) for image in (batch.clean, batch.degraded))
        least = self.floor * distances(clean, degraded)
        return self.space.total(distances(restored, clean) / torch.maximum(away, least).clamp_min(EPSILON))
