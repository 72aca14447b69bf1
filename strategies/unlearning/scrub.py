"""A student that moves away from its teacher on the forgotten tasks and follows it on the retained ones."""

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

    A min phase minimises gamma L_retain + alpha loss(f(x_r), f0(x_r)). A max phase, at the start of the first epochs,
    moves away from the teacher's output. Here it is bounded on both sides [ours]: loss(f(x_f), f0(x_f)) is pulled to
    loss(x_f, f0(x_f)). The rate falls to a tenth after each epoch of `decays`. It needs retain data.
    """

    steps: int = Field(260, ge=0)
    """Optimizer steps of all phases together, split evenly between them."""
    epochs: int = Field(10, ge=1)
    """Number of min phases."""
    max_epochs: int = Field(3, ge=0)
    """Number of first epochs that begin with a max phase."""
    gamma: float = Field(1.0, ge=0)
    """Coefficient of the retained tasks' loss."""
    alpha: float = Field(0.5, ge=0)
    """Coefficient of the distance to the teacher on the retained tasks."""
    decays: tuple[int, ...] = (5, 8, 9)
    """Epochs after which the rate falls to a tenth."""

    def stages(self) -> list[Stage]:
        """Return the stages max1, min1, max2, min2 and so on, with one optimizer throughout."""
        phases = [(kind, n) for n in range(1, self.epochs + 1) for kind in ("max", "min")]
        phases = [(kind, n) for kind, n in phases if kind == "min" or n <= self.max_epochs]
        ends = [self.steps * i // len(phases) for i in range(len(phases) + 1)]
        made = [
            Stage(f"{kind}{n}", {}, ends[i + 1] - ends[i], rate=0.1 ** sum(n > decay for decay in self.decays))
            for i, (kind, n) in enumerate(phases)
        ]
        return [stage for stage in made if stage.steps > 0] or made[:1]

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the rows of the stage's phase."""
        distance = towards(learner, self.answers(learner))
        if stage.name.startswith("max"):
            return self.pooled("forget", 1.0, away(distance))

        def loss(output: Output, batch: Batch) -> Tensor:
            return self.gamma * learner.sample_losses(output, batch) + self.alpha * distance(output, batch)

        return self.pooled("retain", 1.0, loss)


def away(distance: RowLoss) -> RowLoss:
    """Return the loss |distance of the input - distance of the output| [B], both to the teacher's output."""

    def loss(output: Output, batch: Batch) -> Tensor:
        return (distance(untouched(output, batch), batch) - distance(output, batch)).abs()

    return loss
