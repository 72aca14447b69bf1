"""Contrastive regularisation: near the clean image, far from the degraded one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ..shared.features import distances
from ._contrast import EPSILON, ImageContrast, other_ids


@register
class CR(ImageContrast):
    """Contrastive regularisation (AECR-Net, Wu et al., CVPR 2021): sum_l w_l d(f, y) / max(d(f, x), floor d(y, x)).

    f is the restored, y the clean and x the degraded image, and d the distance of their features of level l.

    Departures: the ratio is per sample, so that row gradients exist, where the authors divide means over the batch. The
    floor keeps the denominator from vanishing for a network whose output is near its input; `floor: 0` is the published
    form. The authors' features are those of `vgg19`.
    """

    weight: float = Field(0.1, ge=0)
    """beta: factor of this objective next to the base objective."""
    form: Literal["ratio", "numerator"] = "ratio"
    """ratio: as published; numerator: the distance from the clean image alone, which is `perceptual`."""
    floor: float = Field(0.1, ge=0)
    """Least denominator, relative to the distance of the clean image from the negative; 0: none."""
    negative: Literal["input", "unrelated"] = "input"
    """input: the degraded image; unrelated: the clean image of another sample of the task, a control. What an unrelated
    negative gains is regularisation, not contrast."""

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        if self.negative == "input" or self.form == "numerator":
            return {}
        found = {}
        for row, batch in batches.items():
            if len(batch.ids):
                other = learner.batch(batch.task, other_ids(batch.ids, context.key(self.label, row)))
                found[row] = Constants(row, {"negative": other.clean})
        return found

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        restored = self.maps(output.restored, batch.task)
        if self.form == "numerator":
            return self.space.total(self.numerator(restored, batch))
        return self.space.total(self.ratio(restored, batch, constants.per_sample.get("negative", batch.degraded)))

    def ratio(self, restored: Any, batch: Batch, image: Tensor) -> Tensor:
        """Return d(f, y) / max(d(f, n), floor d(y, n)), [B, L], for the maps of f and negatives n [B, 3, H, W]."""
        clean, negative = (self.constant_maps(one, batch.task) for one in (batch.clean, image))
        towards, away = distances(restored, clean), distances(restored, negative)
        if self.floor == 0:
            return towards / (away + EPSILON)
        return towards / torch.maximum(away, self.floor * distances(clean, negative)).clamp_min(EPSILON)
