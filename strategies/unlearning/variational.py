"""Ascent tied to the posterior of the retained data."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.registry import register

from ._rows import Targeted
from ._weights import importance, loss_of, pull_back, weights_of


@register
class Variational(Targeted):
    """Variational Bayesian unlearning (Nguyen et al., NeurIPS 2020, Eq. 4) with a diagonal Laplace approximation.

    L_UL + penalty/2 sum F_i (w_i - w0_i)^2, F the empirical Fisher of the retained tasks, scaled to mean 1 [ours]. The
    paper's EUBO takes F of the whole set. It needs retain data.
    """

    needs_retain: ClassVar[bool] = True

    penalty_weight: float = Field(1.0, ge=0)
    """lambda. Search .01 to 10."""
    retain: bool = True
    """Add a row of retained tasks. Without it, forgetting noise costs haze 10 dB."""
    samples: int = Field(128, ge=1)
    """Number of single-sample gradients of each retained task for F."""

    def prepare(self, learner: Learner) -> None:
        """Measure the target and the Fisher, and keep the original weights."""
        super().prepare(learner)
        tasks = self.request.retain
        fisher = importance(learner, tasks, self.samples * len(tasks), loss_of(learner))
        self.state["fisher"] = fisher / fisher.mean().clamp_min(1e-30)
        self.state["anchor"] = weights_of(learner.model).detach()

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the rows of the ascent and, with `retain`, of the retained tasks."""
        return [*self.ascent_rows(learner), *(self.pooled("retain", 1.0) if self.retain else [])]

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return the penalty, exactly 0 at the first step, or `None` for weight 0."""
        if self.penalty_weight == 0:
            return None
        return self.penalty_weight * pull_back(model, self.state["fisher"], self.state["anchor"])
