"""The network as it was before: a frozen copy that says what the outputs should stay."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, RowLoss
from cmtl_ir.strategy.output import Output


def weights_now(learner: Learner) -> dict[str, Tensor]:
    """A copy of the network's state dict, to be kept in a part's state."""
    return {name: value.detach().clone() for name, value in learner.model.state_dict().items()}


def network_of(learner: Learner, weights: Mapping[str, Tensor]) -> nn.Module:
    """The run's backbone with other weights, in eval mode, never trained."""
    network = copy.deepcopy(learner.model)
    network.load_state_dict(weights)
    return network.requires_grad_(False).eval()


@torch.no_grad()
def answer(learner: Learner, batch: Batch, network: nn.Module | None = None) -> Tensor:
    """[B, 3, H, W] float32: the image that a network, or the present one, makes of a batch."""
    return learner.restore(batch, network).restored.float()


def distillation(learner: Learner, network: nn.Module) -> RowLoss:
    """The run's loss against a frozen network's answer."""

    def loss(output: Output, batch: Batch) -> Tensor:
        return learner.sample_losses(output, replace(batch, clean=answer(learner, batch, network)))

    return loss
