"""Inputs of the degradations' tests: a photograph, and grey images."""

from __future__ import annotations

import torch
from skimage import data
from torch import Tensor

from cmtl_ir.base.keyed import keys_of

Arguments = tuple[Tensor, Tensor, Tensor, Tensor]
"""Clean, keys, origin, size: what a degradation is called with."""

KEYS = keys_of(11, torch.arange(6))
PHOTO = torch.from_numpy(data.coffee()[:192, 100:308].copy()).permute(2, 0, 1)[None].float() / 255  # [1, 3, 192, 208]


def grey(value: float, height: int = 128, width: int = 128) -> Arguments:
    """Six whole grey images."""
    origin = torch.zeros(6, 2, dtype=torch.int64)
    return torch.full((6, 3, height, width), value), KEYS, origin, torch.tensor([[height, width]] * 6)


def photo() -> Arguments:
    """One whole photograph."""
    return PHOTO, KEYS[:1], torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[192, 208]])
