"""Ascent on the forgotten tasks, descent on the retained ones."""

from __future__ import annotations

from pydantic import Field

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.registry import register

from ._rows import Targeted


@register
class NeggradPlus(Targeted):
    """NegGrad+ (Kurmanji et al., NeurIPS 2023, Sec. 4): alpha L_retain + (1 - alpha) L_UL, the ascent bounded [ours].

    It needs retain data.
    """

    alpha: float = Field(0.95, ge=0, le=1)
    """Share of the retained tasks. Published: .9 to .9999 by search; .5 to .99 are usual."""

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the rows of the ascent and of the retained tasks."""
        return [*self.ascent_rows(learner, 1.0 - self.alpha), *self.pooled("retain", self.alpha)]
