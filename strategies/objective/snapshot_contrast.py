"""Contrast with earlier copies of the network itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._contrast import EPSILON
from ._snapshots import SnapshotNegatives, answers


@register
class SnapshotContrast(SnapshotNegatives):
    """Learning from History (MCLIR, Wu et al., AAAI 2024): away from the outputs of copies: -mean_n sum_l w_l d(f, n).

    Copies start as 0.1 new initial weights + 0.9 weights of the network, and become 0.1 copy + 0.9 network at every
    renewal. `form: ratio` is bounded: sum_l w_l d(f, y) / (d(f, y) + mean_n d(f, n)).

    Departures: the term is subtracted, as in the authors' code (their README adds it), and each copy is renewed at its
    own interval (their list is applied in reverse). Their adaptive decay of one copy is left out. Their features are
    those of `vgg16`.
    """

    vgg16: ClassVar[Mapping[int, float] | None] = {3: 0.2, 8: 0.3, 15: 0.5}
    cost: ClassVar[Cost] = Cost(backward_passes="0", forward_passes="1 per copy", memory="P per copy")

    weight: float = Field(0.001, ge=0)
    """lambda: factor of this objective next to the base objective. For `form: ratio` search 0.001 .. 0.1."""
    form: Literal["subtract", "ratio"] = "subtract"
    """subtract: as published, unbounded below; ratio: between 0 and 1."""

    def negatives(self, batch: Batch, learner: Learner, context: StepContext, row: str) -> Mapping[str, Tensor]:
        return {"negatives": answers(self.networks(learner), batch, learner)}

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        restored = self.maps(output.restored, batch.task)
        away = self.to_all(restored, constants.per_sample["negatives"], batch.task).mean(1)
        if self.form == "subtract":
            return -self.space.total(away)
        towards = self.numerator(restored, batch)
        return self.space.total(towards / (towards + away + EPSILON))
