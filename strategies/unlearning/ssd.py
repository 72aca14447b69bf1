"""Dampening of weights that matter to the forgotten tasks' loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from cmtl_ir.strategy.data import Learner
from cmtl_ir.strategy.registry import register

from ._dampen import Dampening
from ._weights import importance, loss_of


@register
class Ssd(Dampening):
    """Selective synaptic dampening (Foster et al., AAAI 2024, Eq. 5 and 6): shrinks weights by the ratio of Fishers.

    w_i min(1, lambda F_r / F_f) where F_f > alpha F_r, F the mean squared gradient of single samples. F_r is over
    RETAINED tasks, each divided by its own mean [ours]. Against the whole set, as published, F_f / F_D is at most the
    number of tasks, and alpha 10 never applies. It needs retain data.
    """

    def importance_of(self, learner: Learner, tasks: Sequence[str], count: int) -> Tensor:
        """Return the diagonal [P] of the empirical Fisher."""
        return importance(learner, tasks, count, loss_of(learner))
