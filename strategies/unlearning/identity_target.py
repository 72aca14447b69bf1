"""The input itself as the target of forgotten degradations."""

from __future__ import annotations

from pydantic import Field

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Descent

from ._rows import own_input, towards


@register
class IdentityTarget(Descent):
    """Random labelling (Graves et al., AAAI 2021) for images [ours]: .5 loss(f(x_f), x_f) + .5 L_retain.

    The natural wrong output of a restorer is its input. It needs retain data.
    """

    forget_weight: float = Field(0.5, ge=0)
    """Coefficient of the loss against the input."""
    retain_weight: float = Field(0.5, ge=0)
    """Coefficient of the retained tasks' loss."""

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return rows with the input as target, and rows of the retained tasks."""
        forget = self.pooled("forget", self.forget_weight, towards(learner, own_input))
        return [*forget, *self.pooled("retain", self.retain_weight)]
