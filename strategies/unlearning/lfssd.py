"""Weights that move the output on forgotten images are dampened; no clean image is needed."""

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
    """Loss-free selective synaptic dampening (Foster et al. 2024, arXiv 2402.19308): like ssd, with importance
    mean |gradient of ||f(x) - x||^2|.

    The output's distance from the input stands for a classifier's logits [ours]. Needs retain inputs, no clean image.
    """

    def importance_of(self, learner: Learner, tasks: Sequence[str], count: int) -> Tensor:
        """[P]: |g|, not squared."""

        def change(batch: Batch) -> Tensor:
            return (learner.restore(batch).restored.float() - batch.degraded).square().sum()

        return importance(learner, tasks, count, change, torch.abs)
