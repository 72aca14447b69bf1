"""Dynamic weight average: more weight for the task whose loss falls slowest."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from . import _window
from ._named import bounded


@register
class Dwa(Weighting):
    """Dynamic weight average (Liu, Johns, Davison, CVPR 2019): w = K softmax(r / T), r_k = newest / last but one mean.

    Published windows are epochs. Here they are steps in which the task is present. Until a task has two complete
    windows r = 1, so the weights are equal while all tasks are new.
    """

    temperature: float = Field(2.0, gt=0)
    """T: temperature of the softmax. A large value gives nearly equal weights."""
    window: int = Field(50, ge=1)
    """Number of steps whose losses are averaged [ours]; an epoch in the paper."""

    def reset(self) -> None:
        self._state = {"rows": {}}

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] for losses [K], from the windows completed before this step."""
        losses = bounded(losses)
        rows = [self.state["rows"].setdefault(row, {**_window.fresh(), "means": []}) for row in context.rows]
        ratios = torch.stack([_ratio(row, losses) for row in rows])  # [K]
        for row, loss in zip(rows, losses.unbind(), strict=True):
            if (mean := _window.add(row, loss, self.window)) is not None:
                row["means"] = [*row["means"][-1:], mean]
        return len(rows) * torch.softmax(ratios / self.temperature, 0)


def _ratio(row: dict[str, Any], like: Tensor) -> Tensor:
    if len(row["means"]) < 2:
        return like.new_ones(())
    older, newer = (mean.to(like) for mean in row["means"])
    return newer / older
