"""Images with hidden pixels, and the loss on these pixels alone. Shapes: B samples, H x W pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch, Learner, RowLoss
from cmtl_ir.strategy.output import Output


def mask_of(batch: Batch, ratio: float, seed: int) -> Tensor:
    """Return the mask [B, 1, H, W] of a batch, 1 where a pixel is hidden, drawn by (task, id)."""
    keys = keyed.keys_of(keyed.name_key(seed, "mask", batch.task), batch.ids.to(batch.clean.device))
    height, width = batch.clean.shape[2:]
    return (keyed.uniform(keys, (1, height, width)) < ratio).to(batch.clean.dtype)


def hidden(batch: Batch, ratio: float, seed: int) -> Batch:
    """Return the batch with the hidden pixels of its degraded images set to 0."""
    return replace(batch, degraded=batch.degraded * (1.0 - mask_of(batch, ratio, seed)))


def hiding(ratio: float, seed: int) -> Callable[[Batch], Batch]:
    """Return the view of a row that hides pixels."""

    def view(batch: Batch) -> Batch:
        return hidden(batch, ratio, seed)

    return view


def loss_on_hidden(learner: Learner, ratio: float) -> RowLoss:
    """Return the base objective of the hidden pixels: for L1, the sum of |e| m over the sum of m, per sample.

    The other pixels are replaced by the true ones, and the result is divided by the share of hidden pixels.
    """

    def loss(output: Output, batch: Batch) -> Tensor:
        mask = mask_of(batch, ratio, learner.seed)
        share = mask.mean((1, 2, 3)).clamp(min=1.0 / mask[0].numel())
        images = tuple(_only(image, batch.clean, mask) for image in output.images)
        place = next(number for number, image in enumerate(output.images) if image is output.restored)
        return learner.sample_losses(replace(output, images=images, restored=images[place]), batch) / share

    return loss


def _only(image: Tensor, clean: Tensor, mask: Tensor) -> Tensor:
    """Return an image [B, 3, h, w] whose pixels outside of the mask are the true ones."""
    if image.shape[2:] != clean.shape[2:]:
        size = image.shape[2:]
        clean = F.interpolate(clean, size, mode="bilinear")
        mask = F.interpolate(mask, size, mode="nearest")
    return torch.where(mask > 0, image.float(), clean)
