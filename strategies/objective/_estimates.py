"""What the objectives share that compare a network's estimates of the degradations of several images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Batch, Learner


def refuse_without_estimates(label: str, learner: Learner) -> None:
    """Raise ConfigError if the backbone does not estimate degradations."""
    if not hasattr(learner.model, "estimates"):
        raise ConfigError(f"auxiliary {label}: the backbone estimates no degradation; it is made for utilityir")


@torch.no_grad()
def estimates(batch: Batch, learner: Learner) -> Mapping[str, Tensor]:
    """Return the network's estimates for the degraded images of a batch, without a graph."""
    network: Any = learner.model
    images = batch.degraded.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, enabled=False):
        return {name: value.float() for name, value in network.estimates(images).items()}
