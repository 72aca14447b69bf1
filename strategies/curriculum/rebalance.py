"""Shares of the batch that follow the tasks' remaining error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, History, Stage
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.strategy.registry import register

from ._losses import identity_losses
from ._stages import shares, split, uniform

KEPT = 64  # ids per task and window


@register
class Rebalance(Curriculum):
    """Controlled rebalancing (Lin et al., arXiv 2506.05607): focal weights turned into shares of the data.

    The budget is cut into windows with one learning-rate schedule and one optimizer. After each, the share of a task
    becomes proportional to (l / m)^gamma, where l is its mean loss in the window and m the mean loss of up to 64 of the
    window's degraded images themselves. Shares are kept between .5 / K and 2 / K, and then scaled to sum 1.

    Shares act on data. With `weighting: proportional` they move the gradient as well; with `equal` they change its
    variance only. Exponent and windows are [ours]. With `gamma: 0` it is joint training, to the bit if batch / K is a
    whole number.
    """

    gamma: float = Field(1.0, ge=0)
    """Exponent of the remaining error. 0: equal shares."""
    windows: int = Field(10, ge=1)
    """Number of windows."""

    def reset(self) -> None:
        self._state = {"shares": {}, "window": {}}

    def next_stage(self, history: History) -> Stage | None:
        """Return the next window, or `None` after the last one."""
        lengths, done = split(history.steps, [1] * self.windows), len(history.stages)
        if done == self.windows:
            return None
        name = f"window-{done + 1}"
        if name not in self.state["shares"]:
            self.state["shares"][name] = self._shares(history) if done else uniform(history.tasks)
            self.state["window"] = {}
        return Stage(name, self.state["shares"][name], lengths[done], span=(sum(lengths[:done]), history.steps))

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Record the sum of a task's losses in this window, their number, and its first ids."""
        window: dict[str, Any] = self.state["window"].setdefault(row, {"sum": 0.0, "count": 0, "ids": []})
        window["sum"] = sample_losses.double().sum() + window["sum"]
        window["count"] += len(sample_losses)
        if len(window["ids"]) < KEPT:
            window["ids"] += batch.ids.tolist()[: KEPT - len(window["ids"])]

    def _shares(self, history: History) -> dict[str, float]:
        if self.gamma == 0:
            return uniform(history.tasks)
        ratios = {}
        for task in history.tasks:
            seen = self.state["window"].get(task)
            if seen is None:  # no sample in this window
                ratios[task] = 1.0
                continue
            alone = float(identity_losses(history.learner, task, torch.tensor(seen["ids"])).mean())
            ratios[task] = float(seen["sum"]) / seen["count"] / max(alone, 1e-12)
        return rebalanced(ratios, self.gamma)


def rebalanced(ratios: Mapping[str, float], gamma: float) -> dict[str, float]:
    """Return shares proportional to ratio^gamma, kept between .5 / K and 2 / K and then scaled once to sum 1."""
    count = len(ratios)
    plain = shares({task: max(ratio, 1e-12) ** gamma for task, ratio in ratios.items()})
    return shares({task: min(max(share, 0.5 / count), 2.0 / count) for task, share in plain.items()})
