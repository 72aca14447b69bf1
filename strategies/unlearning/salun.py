"""Restriction of any other method to the weights that the forgotten tasks depend on."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, field_serializer, field_validator
from torch import Tensor

from cmtl_ir.base.problems import Problem
from cmtl_ir.strategy.data import Learner, Stage
from cmtl_ir.strategy.making import part_from
from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Ensemble, Rerun, Unlearner, WrappedUnlearner

from ._weights import gradients, loss_of, weights_of, write


@register
class Salun(WrappedUnlearner):
    """Saliency unlearning (Fan et al., ICLR 2024, Eq. 3 and 4): a mask of salient weights, times any other method.

    Saliency is |signed sum of batch gradients of the forgotten tasks' loss| in eval mode. The mask holds the largest
    `share` over the whole network. Masking gradients would not fix the other weights (momentum, decay). Therefore they
    are restored after each step and their moments set to 0, so they stay bit-equal. It needs retain data if its base
    does.
    """

    base: Unlearner = Field("identity_target", validate_default=True)
    """Method whose weights are masked: a name or {name: ..., field: value}."""
    share: float = Field(0.5, gt=0, le=1)
    """Share of all weights that may move (.1 to 1 made no difference here)."""
    batches: int = Field(16, ge=1)
    """Number of batches of 8 forgotten samples whose gradients are summed."""

    @field_validator("base", mode="before")
    @classmethod
    def _part(cls, given: Any) -> Any:
        if isinstance(given, Unlearner):
            return given
        problems: list[Problem] = []
        part = part_from("unlearning", given, "base", problems)
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        return part

    @field_validator("base")
    @classmethod
    def _on_these_weights(cls, base: Unlearner) -> Unlearner:
        if isinstance(base, Rerun | Ensemble | Salun):
            raise ValueError(f"{base.called} does not change the weights of the trained model, so it cannot be masked")
        return base

    @field_serializer("base")
    def _described(self, base: Unlearner) -> dict[str, Any]:
        return {"name": base.called, **base.model_dump(mode="json")}

    # ---------------------------------------------------------------------------------------------- the mask

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Compute the mask from the original weights, then begin the stage of the base."""
        if "mask" not in self.state:
            self.state["mask"] = self._saliency(learner)
            self.state["original"] = weights_of(learner.model).detach()
        self.base.begin_stage(stage, learner)
        self._hold(learner)

    def _saliency(self, learner: Learner) -> Tensor:
        """Return the mask [P], bool: the `share` of weights with the largest |sum of gradients|; ties by position."""
        found = gradients(learner, self.request.forget, 8 * self.batches, loss_of(learner), size=8)
        size = torch.stack(list(found)).double().sum(0).abs()
        mask = torch.zeros_like(size, dtype=torch.bool)
        mask[size.argsort(descending=True, stable=True)[: round(self.share * len(size))]] = True
        return mask

    def after_step(self, learner: Learner, update: Tensor | None) -> None:
        """Restore the weights outside the mask."""
        self.base.after_step(learner, update)
        self._hold(learner)

    @torch.no_grad()
    def _hold(self, learner: Any) -> None:
        mask = self.state["mask"]
        write(learner.model, torch.where(mask, weights_of(learner.model), self.state["original"]))
        start = 0
        for parameter in learner.trained_parameters():
            own = mask[start : start + parameter.numel()].view(parameter.shape)
            for moment in learner.optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    moment.mul_(own)
            start += parameter.numel()
