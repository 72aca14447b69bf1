"""A small memory whose answers stay what they were."""

from __future__ import annotations

from pydantic import Field

from cmtl_ir.strategy.registry import register

from ._memory import Policy
from .distill import Distill


@register
class CLAIO(Distill):
    """Continual all-in-one restoration (De Cheng, TMM 2024), two terms: l(f(x), y) + alpha l(f(x_m), f_prev(x_m)).

    500 remembered inputs, ceil(500 / t) of each task, without their targets. Left out: the term on projected features
    (an autoencoder fitted to the memory) and the contrastive one, which needs VGG weights. So it is `distill` with
    the authors' memory; here the memory takes a share of the batch instead of coming on top.
    """

    capacity: int = Field(500, ge=1)
    """Inputs that are remembered, of all tasks together."""
    policy: Policy = "balanced_up"
    """The authors': ceil(capacity / tasks) of each."""
    strength: float = Field(1.0, ge=0)
    """alpha."""
