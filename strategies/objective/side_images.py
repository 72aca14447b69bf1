"""Restoration error of the images that a network makes on its way."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class SideImages(Objective):
    """Sum of the mean absolute errors of a network's side images (IDR, Zhang et al., CVPR 2023).

    For networks whose `forward_features` returns "side1", "side2" and so on, images [B, 3, H / n, W / n]: idr. The
    clean image is resized to each of them (bilinear, without antialiasing).

    Raise UserError where a side image is no whole fraction of the image, because the network pads it.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "own_features"})

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        sides = [image for name, image in output.features.items() if name.startswith("side")]
        return torch.stack([_error(image.float(), batch.clean) for image in sides]).sum(0)


def _error(image: Tensor, clean: Tensor) -> Tensor:  # [B, 3, h, w], [B, 3, H, W] -> [B]
    if clean.shape[2] % image.shape[2] or clean.shape[3] % image.shape[3]:
        sizes = f"{tuple(clean.shape[2:])} and {tuple(image.shape[2:])}"
        raise UserError(f"side_images: sizes {sizes}: choose data.patch a multiple of what the network pads to")
    return (image - F.interpolate(clean, image.shape[2:], mode="bilinear")).abs().mean((1, 2, 3))
