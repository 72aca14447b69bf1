"""The loss on the forgotten tasks goes up, to where leaving the images alone would be, and no further."""

from __future__ import annotations

from typing import ClassVar

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.registry import register

from ._rows import Targeted


@register
class Ascent(Targeted):
    """Gradient ascent on the forgotten tasks (Thudi et al., EuroS&P 2022), bounded on both sides [ours].

    Needs no retain data, and protects nothing: the baseline of collateral damage.
    """

    needs_retain: ClassVar[bool] = False

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """L_UL alone."""
        return self.ascent_rows(learner)
