"""Noise on the weights that the retained tasks do not need."""

from __future__ import annotations

import torch
from pydantic import Field

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Learner
from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Unlearner

from ._weights import importance, loss_of, weights_of, write


@register
class Fisher(Unlearner):
    """Fisher forgetting (Golatkar et al., CVPR 2020, Eq. 13): w_i += min(sqrt(alpha / F_r,i), clamp) n_i, n normal.

    It is a negative control: it never reads the forgotten tasks, so it cannot choose what it forgets. It needs retain
    data.
    """

    alpha: float = Field(1e-9, ge=0)
    """Strength; 1e-10 to 1e-8 has an effect here (the release's .2 is cut by its clamp everywhere)."""
    clamp: float = Field(1e-1, ge=0)
    """Largest standard deviation of the noise (the release's 1e-3 changes nothing here)."""
    samples: int = Field(128, ge=1)
    """Number of single-sample gradients of each retained task."""

    def edit(self, learner: Learner) -> None:
        """Add one draw of noise, keyed by the seed and the position of the weight."""
        tasks = self.request.retain
        fisher = importance(learner, tasks, self.samples * len(tasks), loss_of(learner))
        spread = torch.sqrt(self.alpha / fisher.clamp_min(1e-30)).clamp(max=self.clamp)
        key = torch.tensor([keyed.name_key(learner.seed, "fisher forgetting")], device=spread.device)
        write(learner.model, weights_of(learner.model).detach() + spread * keyed.normal(key, spread.shape)[0])
