"""Adversarial samples of the original model. Shapes: B samples, images [B, 3, H, W]."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch, Learner

from ..shared.teacher import answer


def lengths(images: Tensor) -> Tensor:
    """Return the L2 norm of each image [B, 1, 1, 1]."""
    return images.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def start(learner: Learner, batch: Batch, radius: float) -> Tensor:
    """Return a keyed Gaussian direction of length radius / 2 per sample, because the gradient at 0 is exactly 0."""
    keys = keyed.keys_of(keyed.name_key(learner.seed, "adversarial", batch.task), batch.ids.cpu())
    direction = keyed.normal(keys, batch.degraded.shape[1:]).to(batch.degraded)
    return direction * (0.5 * radius / lengths(direction))


def within(offset: Tensor, inputs: Tensor, radius: float) -> Tensor:
    """Return the offset projected on the L2 ball, then clipped so that inputs + offset is in [min(0, x), max(1, x)]."""
    offset = offset * (radius / lengths(offset).clamp_min(1e-12)).clamp(max=1.0)
    low, high = inputs.clamp(max=0.0), inputs.clamp(min=1.0)
    return (inputs + offset).clamp(low, high) - inputs


def adversarial(learner: Learner, batch: Batch, network: nn.Module, epsilon: float, steps: int) -> Tensor:
    """Return x' = x + argmax_{|d| <= r} loss(f0(x + d), f0(x)) with r = epsilon sqrt(3 H W).

    The search takes `steps` steps of r / 4 along the unit gradient of each sample.
    """
    inputs, radius = batch.degraded, epsilon * math.sqrt(batch.degraded[0].numel())
    aim = replace(batch, clean=answer(learner, batch, network))
    offset = within(start(learner, batch, radius), inputs, radius)
    for _ in range(steps):
        offset.requires_grad_()
        output = learner.restore(replace(batch, degraded=inputs + offset), network).final()
        (uphill,) = torch.autograd.grad(learner.sample_losses(output, aim).sum(), offset)
        unit = uphill / lengths(uphill).clamp_min(1e-12)
        offset = within((offset + 0.25 * radius * unit).detach(), inputs, radius)
    return (inputs + offset).detach()
