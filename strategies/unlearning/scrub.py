"""A student that disobeys its teacher on what is forgotten and follows it on the rest."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner, Row, RowLoss, Stage
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register
from cmtl_ir.unlearning.probe import untouched

from ._rows import KeepsOriginal, towards


@register
class Scrub(KeepsOriginal):
    """SCRUB (Kurmanji et al., NeurIPS 2023, Alg. 1): max phases on the forgotten, min phases on the retained tasks.

    min: gamma L_retain + alpha loss(f(x_r), f0(x_r)). max, at the start of the first epochs: away from the teacher's
    answer; here bounded on both sides [ours]: loss(f(x_f), f0(x_f)) is pulled to loss(x_f, f0(x_f)). The rate falls
    to a tenth after each epoch of `decays`. Needs retain data.
    """

    steps: int = Field(260, ge=0)
    """Optimizer steps of all phases together, split evenly between them."""
    epochs: int = Field(10, ge=1)
    """Min phases."""
    max_epochs: int = Field(3, ge=0)
    """How many of the first epochs begin with a max phase."""
    gamma: float = Field(1.0, ge=0)
    """Coefficient of the retained tasks' loss."""
    alpha: float = Field(0.5, ge=0)
    """Coefficient of the distance to the teacher on the retained tasks."""
    decays: tuple[int, ...] = (5, 8, 9)
    """Epochs after which the rate is a tenth of what it was."""

    def stages(self) -> list[Stage]:
        """max1, min1, max2, min2 ... with one optimizer throughout."""
        phases = [(kind, n) for n in range(1, self.epochs + 1) for kind in ("max", "min")]
        phases = [(kind, n) for kind, n in phases if kind == "min" or n <= self.max_epochs]
        ends = [self.steps * i // len(phases) for i in range(len(phases) + 1)]
        made = [
            Stage(f"{kind}{n}", {}, ends[i + 1] - ends[i], rate=0.1 ** sum(n > decay for decay in self.decays))
            for i, (kind, n) in enumerate(phases)
        ]
        return [stage for stage in made if stage.steps > 0] or made[:1]

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Those of the phase."""
        distance = towards(learner, self.answers(learner))
        if stage.name.startswith("max"):
            return self.pooled("forget", 1.0, away(distance))

        def loss(output: Output, batch: Batch) -> Tensor:
            return self.gamma * learner.sample_losses(output, batch) + self.alpha * distance(output, batch)

        return self.pooled("retain", 1.0, loss)


def away(distance: RowLoss) -> RowLoss:
    """[B]: |distance of the input - distance of the output|, both to the teacher's answer."""

    def loss(output: Output, batch: Batch) -> Tensor:
        return (distance(untouched(output, batch), batch) - distance(output, batch)).abs()

    return loss
