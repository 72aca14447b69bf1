"""Change of an image's entropy by a degradation: one number per task, by which tasks are ordered."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Learner

PAIRS_AT_ONCE = 50  # pairs held in memory


def luminance_entropy(images: Tensor) -> Tensor:
    """Return the entropy [B] in bits, float64, of the histogram of 8-bit luminance (BT.601).

    The images are [B, 3, H, W] in [0, 1].
    """
    red, green, blue = images.double().unbind(1)
    levels = (255.0 * (0.299 * red + 0.587 * green + 0.114 * blue)).round().clamp(0, 255).long().flatten(1)  # [B, HW]
    offsets = 256 * torch.arange(len(levels), device=levels.device)[:, None]
    counts = torch.bincount((levels + offsets).flatten(), minlength=256 * len(levels)).view(len(levels), 256)
    return torch.special.entr(counts.double() / levels.shape[1]).sum(1) / math.log(2.0)


def entropy_difference(learner: Learner, task: str, pairs: int) -> float:
    """Return the mean of H(degraded) - H(clean) in bits over the task's first `pairs` samples; no counter advances."""
    total = 0.0
    for ids in torch.arange(pairs).split(PAIRS_AT_ONCE):
        batch = learner.batch(task, ids)
        total += float((luminance_entropy(batch.degraded) - luminance_entropy(batch.clean)).sum())
    return total / pairs
