"""Forgetting of chosen instances. Adversarial samples and weights that do not matter to the instances hold the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, Row, Stage
from cmtl_ir.strategy.registry import register

from ._pgd import adversarial
from ._rows import KeepsOriginal, Targeted, towards
from ._weights import gradients, pull_back, trained, weights_of


@register
class InstanceWise(Targeted, KeepsOriginal):
    """Instance-wise unlearning for all-in-one restoration (Su and Zheng 2024, arXiv 2409.00685).

    After L2UL (Cha et al., AAAI 2024): forget L_UL + adversarial L_adv + retain L_r + penalty/2 sum (1 - Omega_i)(w_i -
    w0_i)^2. L_adv keeps f near f0 on PGD samples made once around the forgotten ones. Omega is how much a weight
    matters to the output on forgotten images, scaled min-max per tensor, so that the other weights are held.

    The method is published without retain data (`retain: false`), but then forgetting noise breaks haze by 4-19 dB. It
    needs retain data by default only.
    """

    needs_retain: ClassVar[bool] = False

    stop: Literal["steps", "target"] = "target"
    """steps: use all steps; target: end when the forget PSNR on the probe falls to the retrained model's (to the
    identity's if there is none)."""
    forget_weight: float = Field(1.0, ge=0)
    """Coefficient of the bounded ascent L_UL."""
    adversarial_weight: float = Field(0.3, ge=0)
    """Coefficient of L_adv. At 1 nothing of noise is forgotten."""
    retain: bool = True
    """false: as published, without data of the retained tasks."""
    retain_weight: float = Field(1.0, ge=0)
    """Coefficient of the retained tasks' loss."""
    penalty_weight: float = Field(0.1, ge=0)
    """lambda of the pull back to the original weights."""
    samples: int = Field(64, ge=1)
    """Number of forgotten samples per task around which an adversarial one is made."""
    epsilon: float = Field(0.072, gt=0)
    """Radius of the ball as an RMS over pixels; L2UL's 4 on 32 x 32 images."""
    ascents: int = Field(10, ge=0)
    """Number of PGD steps of a quarter radius."""
    batches: int = Field(16, ge=1)
    """Number of batches of 8 forgotten samples from which Omega is measured."""

    def wants_retain(self) -> bool:
        return self.retain

    def prepare(self, learner: Learner) -> None:
        """Measure target, original weights, importance and the adversarial set, all on the original model."""
        Targeted.prepare(self, learner)
        KeepsOriginal.prepare(self, learner)
        self.state["anchor"] = weights_of(learner.model).detach()
        self.state["hold"] = 1.0 - self._importance(learner)
        network = self.original(learner)
        self.state["adversarial"] = {
            task: torch.cat([self._attack(learner, task, ids, network) for ids in torch.arange(self.samples).split(16)])
            for task in (self.request.forget if self.adversarial_weight > 0 else ())
        }

    def _attack(self, learner: Learner, task: str, ids: Tensor, network: nn.Module) -> Tensor:
        return adversarial(learner, learner.batch(task, ids), network, self.epsilon, self.ascents)

    def _importance(self, learner: Learner) -> Tensor:
        """Return Omega [P] in [0, 1] from |gradient of the mean L2 norm of the output|.

        The gradient is averaged batch by batch and scaled min-max per tensor.
        """

        def norm(batch: Batch) -> Tensor:
            return learner.restore(batch).restored.float().flatten(1).norm(dim=1).mean()

        found = gradients(learner, self.request.forget, 8 * self.batches, norm, size=8)
        total = torch.stack([gradient.abs() for gradient in found]).mean(0)
        return torch.cat([_min_max(one) for one in total.split([p.numel() for p in trained(learner.model)])])

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the rows of the ascent, of the adversarial samples and of the retained tasks."""
        forget = self.ascent_rows(learner, self.forget_weight)
        attacked = towards(learner, self.answers(learner))
        memory = range(self.samples)
        near = self.pooled("adversarial", self.adversarial_weight, attacked, memory=memory, view=self._view)
        return [*forget, *near, *(self.pooled("retain", self.retain_weight) if self.retain else [])]

    def _view(self, batch: Batch) -> Batch:
        made = self.state["adversarial"][batch.task]
        return replace(batch, degraded=made[batch.ids.to(made.device)])

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return the pull back to the original weights, exactly 0 at the first step, or `None` for weight 0."""
        if self.penalty_weight == 0:
            return None
        return self.penalty_weight * pull_back(model, self.state["hold"], self.state["anchor"])


def _min_max(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)
