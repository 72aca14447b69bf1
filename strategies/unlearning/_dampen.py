"""Weights that matter more to the forgotten than to the retained tasks are shrunk. P: trained parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Learner
from cmtl_ir.strategy.unlearning import Unlearner
from cmtl_ir.unlearning.probe import probe_psnr, target_psnr

from ._weights import weights_of, write

TRIED = [float(alpha) for alpha in np.geomspace(1.0, 100.0, 17)]


def dampened(weights: Tensor, forget: Tensor, retain: Tensor, alpha: float, strength: float) -> Tensor:
    """[P]: w_i min(1, strength F_r / F_f) where F_f > alpha F_r; all [P]."""
    factor = (strength * retain / forget.clamp_min(1e-30)).clamp(max=1.0)
    return torch.where(forget > alpha * retain, weights * factor, weights)


class Dampening(Unlearner):
    """One-shot: no gradient step, only a smaller size of some weights."""

    alpha: float | None = Field(None, gt=0)
    """How much more a weight must matter to the forgotten tasks to be dampened; null: that of 1..100 which comes
    closest to the target (retrained model's forget PSNR, else the identity's). Haze 3, noise 10 were right here."""
    strength: float = Field(1.0, gt=0)
    """lambda."""
    samples: int = Field(128, ge=1)
    """Single-sample gradients from which importance is measured, of the forgotten tasks and of each retained one."""

    def wants_target(self) -> bool:
        """For the search."""
        return self.alpha is None

    def importance_of(self, learner: Learner, tasks: Sequence[str], count: int) -> Tensor:
        """[P]."""
        raise TypeError(f"{type(self).__name__} does not say what importance is")

    def edit(self, learner: Learner) -> None:
        """Measure, search if asked, shrink."""
        forget = _own_mean(self.importance_of(learner, self.request.forget, self.samples))
        each = [_own_mean(self.importance_of(learner, [task], self.samples)) for task in self.request.retain]
        retain, weights = torch.stack(each).mean(0), weights_of(learner.model).detach()

        def write_with(alpha: float) -> None:
            write(learner.model, dampened(weights, forget, retain, alpha, self.strength))

        alpha = self.alpha or self._search(learner, write_with)
        write_with(alpha)
        self.state["alpha"] = alpha

    def _search(self, learner: Learner, write_with: Callable[[float], None]) -> float:
        target = target_psnr(learner, self.request)
        distances = []
        for alpha in TRIED:
            write_with(alpha)
            distances.append(abs(probe_psnr(learner, self.request.forget) - target))
        return TRIED[int(np.argmin(distances))]


def _own_mean(values: Tensor) -> Tensor:
    """Divided by its mean: tasks of large losses must not count for more."""
    return values / values.mean().clamp_min(1e-30)
