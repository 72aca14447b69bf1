"""Frozen copies of a network that follow it, with weights that are stored in the state of a part."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def frozen_copy(module: nn.Module, state: dict[str, Any]) -> Any:
    """Return a frozen copy of a module, in eval mode, whose weights are the tensors of `state`.

    An empty `state` is filled with the weights of the module. Otherwise the copy gets the weights of `state`.
    """
    made = copy.deepcopy(module).requires_grad_(False).eval()
    if state:
        made.load_state_dict(state)
    state.update(made.state_dict())
    return made


@torch.no_grad()
def follow(follower: nn.Module, module: nn.Module, keep: float) -> None:
    """Set the parameters of a copy to keep * its own + (1 - keep) * those of the module. Buffers are copied."""
    for own, others in zip(follower.parameters(), module.parameters(), strict=True):
        own.mul_(keep).add_(others, alpha=1 - keep)
    for mine, theirs in zip(follower.buffers(), module.buffers(), strict=True):
        mine.copy_(theirs)
