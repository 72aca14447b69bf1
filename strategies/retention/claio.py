"""Distillation on a small memory of inputs."""

from __future__ import annotations

from pydantic import Field

from cmtl_ir.strategy.registry import register

from ._memory import Policy
from .distill import Distill


@register
class CLAIO(Distill):
    """Continual all-in-one restoration (De Cheng, TMM 2024), two terms: l(f(x), y) + alpha l(f(x_m), f_prev(x_m)).

    500 inputs are remembered, ceil(500 / t) of each task, without their targets. Two terms are left out: the one on
    projected features (an autoencoder fitted to the memory), and the contrastive one, which needs VGG weights. So this
    is `distill` with the authors' memory. Here the memory takes a share of the batch instead of being added to it.
    """

    capacity: int = Field(500, ge=1)
    """Number of inputs remembered, of all tasks together."""
    policy: Policy = "balanced_up"
    """The authors' policy, `balanced_up`, keeps ceil(capacity / tasks) of each task."""
    strength: float = Field(1.0, ge=0)
    """alpha: weight of the distillation term."""
