"""Dynamic weight average: more weight to the task whose loss falls slowest."""

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

    Published windows are epochs; here they are steps in which the task is present. r = 1 (so equal weights while
    all tasks are new) until a task has two complete windows.
    """

    temperature: float = Field(2.0, gt=0)
    """T: large = equal weights."""
    window: int = Field(50, ge=1)
    """Steps whose losses are averaged [ours]; an epoch in the paper."""

    def reset(self) -> None:
        """No task seen."""
        self._state = {"rows": {}}

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """losses [K] -> weights [K] from the windows completed before this step."""
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
