"""Restoration of large images in overlapping tiles. The borders affected by padding are cut, the rest is blended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.output import final_output

OVERLAP = 64
"""Minimum overlap of neighbouring tiles in pixels."""
MARGIN = 24
"""Pixels cut at an inner edge of a tile, where the network saw its own padding instead of the image."""
SMALLEST_TILE = 2 * OVERLAP
"""Smallest side of a tile in pixels. The number of passes grows without bound as a tile approaches the overlap."""
ALIGNMENT = 32
"""Tiles start at multiples of this, so that a network that downsamples groups the same pixels as in the whole image."""

Restore = Callable[[Tensor, Tensor], Any]
"""(degraded [B, 3, H, W], task numbers [B]) -> output of a backbone."""


@torch.no_grad()
def restore_tiled(network: Restore, degraded: Tensor, task_numbers: Tensor, tile: int) -> Tensor:
    """Restore [1, 3, H, W] to [1, 3, H, W] float32 in [0, 1], in overlapping tiles if a side exceeds `tile` pixels.

    At every inner edge of a tile, `MARGIN` pixels are cut and the rest of the overlap is blended linearly. A network
    whose output depends on no more than `MARGIN` pixels around each pixel gives the same image as in one piece.
    Raise UserError if `tile` is smaller than twice the overlap.
    """
    check_tile(tile, "tile")
    height, width = degraded.shape[-2:]
    if max(height, width) <= tile:
        return final_output(network, network(degraded, task_numbers)).float().clamp(0.0, 1.0)
    total, weight = torch.zeros_like(degraded), torch.zeros_like(degraded[:, :1])
    for rows in _spans(height, tile):
        for columns in _spans(width, tile):
            restored = final_output(network, network(degraded[..., rows, columns], task_numbers)).float()
            share = _share(rows, height, degraded)[:, None] * _share(columns, width, degraded)  # [h, w]
            total[..., rows, columns] += restored * share
            weight[..., rows, columns] += share
    return (total / weight).clamp(0.0, 1.0)


def check_tile(tile: int, key: str) -> None:
    """Raise UserError if a tile is smaller than twice the overlap. `key` is the option that set it."""
    if tile < SMALLEST_TILE:
        raise UserError(
            f"{key} {tile}: tiles overlap by {OVERLAP} pixels, so their side must be at least {SMALLEST_TILE}; "
            f"give {SMALLEST_TILE} or more"
        )


def _spans(length: int, tile: int) -> list[slice]:
    """Return the tiles along one side. The last one may be up to `ALIGNMENT` - 1 pixels shorter than the others."""
    if length <= tile:
        return [slice(0, length)]
    step = (tile - OVERLAP) // ALIGNMENT * ALIGNMENT
    last = -(-(length - tile) // ALIGNMENT) * ALIGNMENT
    return [slice(start, min(start + tile, length)) for start in (*range(0, last, step), last)]


def _share(span: slice, length: int, like: Tensor) -> Tensor:
    """Return the weight of each pixel of a tile: 0 in the margins of inner edges, a ramp next to them, 1 elsewhere."""
    ramp = OVERLAP - 2 * MARGIN + 1
    position = torch.arange(span.start, span.stop, device=like.device, dtype=like.dtype)
    share = torch.ones_like(position)
    if span.start > 0:
        share = torch.minimum(share, (position - span.start - MARGIN + 1) / ramp)
    if span.stop < length:
        share = torch.minimum(share, (span.stop - MARGIN - position) / ramp)
    return share.clamp(0.0, 1.0)
