"""Frozen copies of the network, used as teachers whose outputs are to be preserved."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, RowLoss
from cmtl_ir.strategy.output import Output


def weights_now(learner: Learner) -> dict[str, Tensor]:
    """Return a copy of the network's state dict, to be kept in a part's state."""
    return {name: value.detach().clone() for name, value in learner.model.state_dict().items()}


def network_of(learner: Learner, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return the run's backbone with other weights, frozen and in eval mode."""
    network = copy.deepcopy(learner.model)
    network.load_state_dict(weights)
    return network.requires_grad_(False).eval()


@torch.no_grad()
def answer(learner: Learner, batch: Batch, network: nn.Module | None = None) -> Tensor:
    """Return the restored images [B, 3, H, W], float32, of a batch. `None` means the current network."""
    return learner.restore(batch, network).restored.float()


def distillation(learner: Learner, network: nn.Module) -> RowLoss:
    """Return the run's loss against the output of a frozen network."""

    def loss(output: Output, batch: Batch) -> Tensor:
        return learner.sample_losses(output, replace(batch, clean=answer(learner, batch, network)))

    return loss
