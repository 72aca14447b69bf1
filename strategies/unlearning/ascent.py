"""Ascent of the loss on the forgotten tasks, up to the loss of leaving the images unchanged."""

from __future__ import annotations

from typing import ClassVar

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.registry import register

from ._rows import Targeted


@register
class Ascent(Targeted):
    """Gradient ascent on the forgotten tasks (Thudi et al., EuroS&P 2022), bounded on both sides [ours].

    It needs no retain data and protects nothing, which makes it the baseline of collateral damage.
    """

    needs_retain: ClassVar[bool] = False

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the rows of L_UL alone."""
        return self.ascent_rows(learner)
