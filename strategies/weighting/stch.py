"""Smooth Tchebycheff scalarisation: a soft maximum over the tasks' progress since the warm-up."""

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
class Stch(Weighting):
    """Smooth Tchebycheff scalarisation (Lin et al., ICML 2024; LibMTL's `STCH.py`): w = K softmax(log(l/nadir)/mu)/l.

    During the warm-up w = 1/l. The nadir is a task's mean loss over the last window of the warm-up. The logarithm is
    LibMTL's. Without it, raw L1 losses are so close together that the softmax is equal weighting. At mu = 1 the losses
    cancel and w ~ 1/nadir, which is constant under `mean1`. A smaller mu follows the slowest task. While the nadir of a
    task is unknown, its quotient is 1. If this holds for all tasks, it is the warm-up.
    """

    mu: float = Field(1.0, gt=0)
    """Smoothness. A small value is nearly the maximum over tasks."""
    warmup: int = Field(4, ge=0)
    """Number of windows before the one in which the nadir is measured."""
    window: int = Field(50, ge=1)
    """Steps per window, counted where the task is present [ours]; an epoch in LibMTL."""

    def reset(self) -> None:
        self._state = {"rows": {}}

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] for losses [K], from the nadirs known before this step."""
        losses = bounded(losses)
        rows = [self._row(name) for name in context.rows]
        pairs = zip(rows, losses.unbind(), strict=True)
        nadirs = torch.stack([loss if row["nadir"] is None else row["nadir"].to(loss) for row, loss in pairs])  # [K]
        for row, loss in zip(rows, losses.unbind(), strict=True):
            self._warm_up(row, loss)
        return len(rows) * torch.softmax((losses / nadirs).log() / self.mu, 0) / losses

    def _row(self, name: str) -> dict[str, Any]:
        return self.state["rows"].setdefault(name, {**_window.fresh(), "windows": 0, "nadir": None})

    def _warm_up(self, row: dict[str, Any], loss: Tensor) -> None:
        if row["nadir"] is None and (mean := _window.add(row, loss, self.window)) is not None:
            row["windows"] += 1
            row["nadir"] = mean if row["windows"] > self.warmup else None
