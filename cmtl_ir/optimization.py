"""Per-sample losses, optimizer, learning-rate schedule and averaged weights: the same for every strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.config import OptimizerConfig
from cmtl_ir.strategy import Schedule


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


def make_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of an experiment, fused where torch offers it."""
    parameters = list(parameters)
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def learning_rate(base: float, schedule: Schedule, step: int, steps: int) -> float:
    """The rate of step `step` (from 0) of a stage of `steps`: linear warm-up, then `cycles` cosines to the floor."""
    if step < schedule.warmup:
        return base * (step + 1) / schedule.warmup
    if schedule.kind == "constant":
        return base
    length = (steps * schedule.stretch - schedule.warmup) / schedule.cycles
    phase = ((step - schedule.warmup) % length) / length
    return schedule.floor + (base - schedule.floor) * 0.5 * (1.0 + math.cos(math.pi * phase))


class AveragedWeights:
    """Exponential moving average of the weights; begins anew at each stage."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights by 1 - decay."""
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1.0 - self.decay)
            else:
                self.weights[name].copy_(value)
