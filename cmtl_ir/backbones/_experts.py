"""Mixtures of experts, routed separately for each sample. Shapes: B samples, E experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def largest(values: Tensor, count: int) -> Tensor:
    """Return a mask [B, E] that is 1 at the `count` largest values of each row and 0 elsewhere."""
    return torch.zeros_like(values).scatter(1, values.topk(count, dim=1).indices, 1.0)


def mixed(weights: Tensor, experts: Sequence[Callable[[], Tensor]]) -> Tensor:
    """Return the weighted sum of the experts' outputs [B, ...]; `weights` [B, E] are 0 for experts not chosen.

    With gradients all experts run, so that shapes do not depend on the data and the rows of a batch stay separable.
    Without gradients an expert that no sample chose is skipped.
    """
    total: Tensor | None = None
    for number, expert in enumerate(experts):
        weight = weights[:, number]
        if not torch.is_grad_enabled() and not bool(weight.any()):
            continue
        output = expert()
        part = output * weight.to(output.dtype).view(-1, *(1 for _ in output.shape[1:]))
        total = part if total is None else total + part
    if total is None:
        raise ValueError("no expert was chosen: the router's weights are all zero")
    return total
