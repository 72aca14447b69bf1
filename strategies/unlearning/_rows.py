"""Targets of the rows of unlearning programs: the identity, the input, the original model's output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, Row, RowLoss
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.unlearning import Descent
from cmtl_ir.unlearning.probe import identity_losses, probe_psnr, target_psnr

from ..shared.teacher import answer, network_of, weights_now

Bound = Literal["two_sided", "hinge", "none"]


def ascent_loss(learner: Learner, bound: Bound) -> RowLoss:
    """Return the loss |m_i - loss_i| [B], where m_i is the loss of leaving image i unchanged.

    The loss rises to the identity's and stays there. A hinge max(0, m_i - loss_i) is no bound, because momentum carries
    the loss to 1.1-9.4 times the identity's.
    """

    def loss(output: Output, batch: Batch) -> Tensor:
        losses = learner.sample_losses(output, batch)
        if bound == "none":
            return losses
        gap = identity_losses(learner, output, batch) - losses
        return gap.abs() if bound == "two_sided" else gap.clamp(min=0)

    return loss


def towards(learner: Learner, target: Callable[[Batch], Tensor]) -> RowLoss:
    """Return the run's loss [B] against `target(batch)` [B, 3, H, W] instead of the clean image."""

    def loss(output: Output, batch: Batch) -> Tensor:
        return learner.sample_losses(output, replace(batch, clean=target(batch)))

    return loss


def own_input(batch: Batch) -> Tensor:
    """Return the degraded image itself [B, 3, H, W], the target of restoring nothing."""
    return batch.degraded


class Ascending(Descent):
    """An unlearner that raises the loss on the forgotten tasks to the identity's."""

    bound: Bound = "two_sided"
    """two_sided: |m - loss|, m the identity's loss of a sample; hinge: max(0, m - loss); none: -loss, without a
    bound."""

    def ascent_rows(self, learner: Learner, coefficient: float = 1.0) -> list[Row]:
        """Return the `forget:TASK` rows of the bounded ascent."""
        sign = -1.0 if self.bound == "none" else 1.0
        return self.pooled("forget", sign * coefficient, ascent_loss(learner, self.bound))


class Targeted(Ascending):
    """An ascent that can stop as soon as the tasks are forgotten."""

    stop: Literal["steps", "target"] = "steps"
    """steps: use all steps; target: end when the forget PSNR on the probe falls to the retrained model's (to the
    identity's if there is none)."""
    check: int = 10
    """Steps between checks on the probe."""

    def wants_target(self) -> bool:
        return self.stop == "target"

    def prepare(self, learner: Learner) -> None:
        """Measure the target PSNR if `stop` needs it."""
        if self.stop == "target":
            self.state["target"] = target_psnr(learner, self.request)

    def after_step(self, learner: Learner, update: Tensor | None) -> None:
        """End the stage when the target is reached."""
        due = self.stop == "target" and (learner.step + 1) % self.check == 0
        if due and probe_psnr(learner, self.request.forget) <= self.state["target"]:
            learner.end_stage_now()


class KeepsOriginal(Descent):
    """An unlearner that compares with the original model."""

    def prepare(self, learner: Learner) -> None:
        """Keep a copy of the original weights."""
        self.state["original"] = weights_now(learner)

    def original(self, learner: Learner) -> nn.Module:
        """Return the original network f0, frozen."""
        return network_of(learner, self.state["original"])

    def answers(self, learner: Learner) -> Callable[[Batch], Tensor]:
        """Return the function from a batch to f0(x) [B, 3, H, W]."""
        network = self.original(learner)
        return lambda batch: answer(learner, batch, network)
