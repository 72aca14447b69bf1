"""Dampening of weights that move the output on forgotten images, without clean images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner
from cmtl_ir.strategy.registry import register

from ._dampen import Dampening
from ._weights import importance


@register
class Lfssd(Dampening):
    """Loss-free selective synaptic dampening (Foster et al. 2024, arXiv 2402.19308).

    Like `ssd`, with importance mean |gradient of ||f(x) - x||^2|. The output's distance from the input replaces a
    classifier's logits [ours]. It needs retain inputs, but no clean image.
    """

    def importance_of(self, learner: Learner, tasks: Sequence[str], count: int) -> Tensor:
        """Return the mean |g| [P], not squared."""

        def change(batch: Batch) -> Tensor:
            return (learner.restore(batch).restored.float() - batch.degraded).square().sum()

        return importance(learner, tasks, count, change, torch.abs)
