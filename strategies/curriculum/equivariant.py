"""Training on degraded images without the truth: turned answers, degraded once more, must be restored again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.base.symmetries import SYMMETRIES, turned
from cmtl_ir.strategy.data import UNLABELLED, Batch, Learner
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._unlabelled import Unlabelled


@register
class Equivariant(Unlabelled):
    """Equivariant imaging (Chen, Tachella and Davies, ICCV 2021) on unlabelled images: l(f(A x2), x2), x2 = T f(x).

    T turns, flips or shifts each image, and A is the degradation of the task with the parameters of the sample and
    noise of its own. With A = identity, an idempotent network that commutes with T has loss 0. So has one whose answer
    is constant: labelled images in the same batch keep it from that. With `share: 0` or `weight: 0` it is joint
    training on the labelled images.

    Departures: x2 is a constant of the step, because rounded and clipped degradations have no gradient. The paper's
    consistency with the measurement, |A f(x) - x|^2, is left out: noise and weather are not measured twice alike. The
    loss is the base objective.
    """

    cost: ClassVar[Cost] = Cost(forward_passes="1 per unlabelled sample")
    meant_for: ClassVar[str] = "has a degradation by formula"

    transform: Literal["symmetry", "shift"] = "symmetry"
    """symmetry: one of the seven turns and flips of a square; shift: a circular shift, which brings opposite borders
    together."""

    def unfit(self, task: str, learner: Learner) -> str:
        return "has degraded images from files, and no formula" if learner.degradation(task) is None else ""

    def without_truth(self, task: str, learner: Learner) -> dict[str, Any]:
        @torch.no_grad()
        def view(batch: Batch) -> Batch:
            answer = learner.restore(batch).restored.float().clamp(0, 1)
            keys = keyed.keys_of(keyed.name_key(learner.seed, "equivariant", task, learner.step), batch.ids)
            moved = turns(answer, keys) if self.transform == "symmetry" else shifts(answer, keys)
            return replace(batch, degraded=learner.degrade_again(batch, moved, UNLABELLED), clean=moved)

        return {"view": view}


def turns(images: Tensor, keys: Tensor) -> Tensor:
    """Return square images [B, 3, P, P], each turned or flipped by its key [B]; none stays as it is."""
    numbers = keyed.integers(keys, 1, SYMMETRIES, ()).tolist()
    return torch.cat([turned(one[None], number) for one, number in zip(images, numbers, strict=True)]).contiguous()


def shifts(images: Tensor, keys: Tensor) -> Tensor:
    """Return images [B, 3, H, W], each shifted circularly by its key [B]."""
    high, wide = images.shape[2:]
    by = keyed.integers(keys, 0, 1 << 31, (2,)).tolist()
    return torch.stack([one.roll((y % high, x % wide), (1, 2)) for one, (y, x) in zip(images, by, strict=True)])
