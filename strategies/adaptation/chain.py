"""Restoration of one degradation after the other, until nothing is left to restore."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.adaptation import AdaptationContext, Adapter
from cmtl_ir.strategy.registry import register


@register
class Chain(Adapter):
    """Chain-of-Restoration (Cao et al., arXiv 2410.08688): find the strongest degradation, restore it, and repeat.

    A round is skipped, and the chain ends, where the classifier finds `clean`, or no task with a probability of at
    least `certain`. `decide: fixed` repeats the network instead: f(f(x)) is the control. Tasks are told apart by the
    head of the auxiliary objective degradation_class or by a grouped run's router.
    Cost: 1 forward pass and 1 classification per round.
    """

    decide: Literal["classifier", "fixed"] = "classifier"
    """classifier: a round restores the task that is found; fixed: `rounds` passes of the plain network."""
    rounds: int = Field(4, ge=1)
    """Largest number of rounds. With `decide: fixed`, 1 is `none`."""
    certain: float = Field(0.5, ge=0, le=1)
    """Probability of the most likely task below which the chain ends."""
    clean: str | None = None
    """Task of the run that leaves images as they are; null: it has none."""

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        image = degraded
        for _ in range(self.rounds):
            if self.decide == "fixed":
                image = context.restore(network, image)
                continue
            found = context.classify(network, image)
            if found is None:
                raise UserError(
                    f"--adapt {self.called}: needs a classifier: a run with the auxiliary objective degradation_class, "
                    "or a grouped run that routes by features; or give decide=fixed"
                )
            task = max(found, key=found.__getitem__)
            if found[task] < self.certain or task == self.clean:
                break
            image = context.restore(network, image, task)
        return image
