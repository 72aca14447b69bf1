"""From the fields of an experiment to a network on its device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.base.keyed import name_key


def pick_device(name: str) -> torch.device:
    """`auto`: the first GPU if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def initial_model(fields: Mapping[str, Any], seed: int) -> nn.Module:
    """The backbone with weights that depend on the seed only; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(name_key(seed, "network initialisation") & 0x7FFFFFFFFFFFFFFF)
        return backbones.build(**fields)


def network_to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on a device, its weights in channels_last: faster convolutions on CPU and GPU."""
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
