"""Contrast whose negatives are weighed patch by patch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.registry import register

from ._snapshots import answers
from .curricular_cr import CurricularCR, psnr


@register
class QualityContrast(CurricularCR):
    """Difficulty-adaptive perceptual loss (Perceive-IR, Zhang et al., TIP 2025).

    sum_l w_l d(f, y) / max(2 d(f, x) + sum_j v_j d(f, n_j), 1e-6), where v_j is 1.25 if the PSNR of the negative n_j on
    this patch is at most that of the network in training on probes of the task, and 0.75 otherwise.

    Departures: negatives are run and not stored, see `curricular_cr`. The term on quality prompts is left out, because
    it needs CLIP and prompts tuned on three grades of quality. The authors' features are those of `vgg16`.
    """

    vgg16: ClassVar[Mapping[int, float] | None] = {3: 1 / 12, 7: 1 / 6, 11: 1 / 3, 15: 1.0}

    weight: float = Field(0.1, ge=0)
    """w: factor of this objective next to the base objective."""
    input_weight: float = Field(2.0, ge=0)
    """Weight of the distance from the degraded image."""

    def negatives(self, batch: Batch, learner: Learner, context: StepContext, row: str) -> Mapping[str, Tensor]:
        networks = self.networks(learner)
        images = answers(networks, batch, learner)
        model, _ = self._psnrs(batch.task, networks, learner)
        own = torch.stack([psnr(image, batch.clean) for image in images.unbind(1)], 1)
        return {"negatives": images, "weights": self.weights_of(model, own)}

    def weights_of(self, model: float, negatives: Tensor) -> Tensor:
        hard = torch.where(negatives <= model, 1 + self.difficulty, 1 - self.difficulty)
        return torch.cat([torch.full_like(hard[:, :1], self.input_weight), hard], 1)

    def denominator(self, weighed: Tensor) -> Tensor:
        return weighed.clamp_min(1e-6)
