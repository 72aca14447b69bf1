"""Further training without the forgotten tasks."""

from __future__ import annotations

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Descent


@register
class Finetune(Descent):
    """Fine-tuning on the retained tasks only (the baseline of Golatkar et al., CVPR 2020): forgets by neglect.

    It needs retain data, but no forget data.
    """

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the rows of L_retain alone."""
        return self.pooled("retain", 1.0)
