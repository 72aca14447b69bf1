"""Dampening of weights that matter more to the forgotten than to the retained tasks. P: trained parameters."""

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
    """Return the weights [P] times min(1, strength F_r / F_f) where F_f > alpha F_r; all tensors [P]."""
    factor = (strength * retain / forget.clamp_min(1e-30)).clamp(max=1.0)
    return torch.where(forget > alpha * retain, weights * factor, weights)


class Dampening(Unlearner):
    """A one-shot method without gradient steps, which shrinks some of the weights."""

    alpha: float | None = Field(None, gt=0)
    """How much more a weight must matter to the forgotten tasks to be dampened; null: the value in 1..100 that comes
    closest to the target (retrained model's forget PSNR, otherwise the identity's). Haze 3, noise 10 were right
    here."""
    strength: float = Field(1.0, gt=0)
    """lambda: factor of the dampening."""
    samples: int = Field(128, ge=1)
    """Number of single-sample gradients for the importance, of the forgotten tasks together and of each retained
    one."""

    def wants_target(self) -> bool:
        return self.alpha is None

    def importance_of(self, learner: Learner, tasks: Sequence[str], count: int) -> Tensor:
        """Return the importance [P] for the tasks, from `count` samples."""
        raise TypeError(f"{type(self).__name__} does not implement `importance_of`")

    def edit(self, learner: Learner) -> None:
        """Measure importance, search for alpha if it is `None`, and shrink the weights."""
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
    """Return the values divided by their mean, so that tasks of large losses do not count for more."""
    return values / values.mean().clamp_min(1e-30)
