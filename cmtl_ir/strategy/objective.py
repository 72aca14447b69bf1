"""The losses of a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _l1(restored: Tensor, clean: Tensor) -> Tensor:
    return (restored - clean).abs().mean((1, 2, 3))


def _charbonnier(restored: Tensor, clean: Tensor) -> Tensor:
    return torch.sqrt((restored - clean).square() + 1e-6).mean((1, 2, 3))


def _psnr(restored: Tensor, clean: Tensor) -> Tensor:
    mean_squared_error = (restored - clean).square().mean((1, 2, 3))
    return (10.0 / math.log(10.0)) * torch.log(mean_squared_error + 1e-8)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": _l1, "charbonnier": _charbonnier, "psnr": _psnr}
"""Name -> (restored [B, 3, H, W], clean [B, 3, H, W]) -> [B]. `psnr` is NAFNet's: negative PSNR in dB."""


def sample_losses(name: str, restored: Any, clean: Tensor) -> Tensor:
    """[B] loss of each sample in float32; a backbone of several outputs is scored by the sum over its outputs."""
    if isinstance(restored, list | tuple):
        return torch.stack([LOSSES[name](output.float(), clean) for output in restored]).sum(0)
    return LOSSES[name](restored.float(), clean)
