"""Joint training, then the tasks that would gain most from training of their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Batch, History, Learner, Stage
from cmtl_ir.strategy.parts import Cost, Curriculum
from cmtl_ir.strategy.registry import register

from ._losses import UNDRAWN
from ._stages import split, uniform

log = logging.getLogger("cmtl_ir")


@register
class Unsatisfied(Curriculum):
    """TGSR (Zhang et al., NeurIPS 2023): tasks with much left to gain from fine-tuning are trained further in groups.

    After a joint stage, a copy of the network is fine-tuned on each task alone, and the gain in dB on training samples
    that no run draws is measured. A task belongs to the group of the highest threshold that its gain exceeds. The
    groups are trained one after the other, from the highest threshold down, with equal parts of the remaining steps. A
    task below all thresholds is not trained further. Optimizer and learning-rate schedule go on throughout. If no task
    exceeds a threshold, or with `thresholds: []`, it is joint training.

    The authors' release has no code for the groups: thresholds and the lengths of the stages are [ours]. The paper's
    tasks are a hundred settings of one degradation model.
    """

    cost: ClassVar[Cost] = Cost(memory="2 P during the probes: `probe` steps per task, once")

    share: float = Field(0.7, gt=0, lt=1)
    """Share of the steps in the joint stage."""
    probe: int = Field(100, ge=1)
    """Steps of the fine-tuning on each task. They are not part of the budget."""
    rate: float = Field(0.2, gt=0)
    """Factor of the learning rate in the fine-tuning; a cosine has about .2 of its rate left at .7 of the steps."""
    thresholds: tuple[float, ...] = (0.8, 0.6, 0.4, 0.2)
    """Gains in dB, from the highest down. []: joint training alone."""
    samples: int = Field(32, ge=1)
    """Training samples per task on which the gain is measured."""

    @field_validator("thresholds")
    @classmethod
    def _fall(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        if list(given) != sorted(set(given), reverse=True):
            raise ValueError("the thresholds must fall, as in [0.8, 0.4]")
        return given

    def reset(self) -> None:
        self._state = {"gains": {}}

    def next_stage(self, history: History) -> Stage | None:
        """Return the joint stage, then one stage per group. Raise ConfigError for too few steps."""
        done, total = len(history.stages), history.steps
        if not self.thresholds:
            return None if done else Stage("joint", uniform(history.all_tasks), total)
        first = round(self.share * total)
        if not 0 < first <= total - len(self.thresholds):
            raise ConfigError(
                f"training.steps: {total} steps are too few for unsatisfied with share {self.share:g} and up to "
                f"{len(self.thresholds)} groups"
            )
        if done == 0:
            return Stage("joint", uniform(history.all_tasks), first, span=(0, total))
        groups = groups_of(self._gains(history), self.thresholds)
        if not groups:
            rest = Stage("joint", uniform(history.all_tasks), total - first, span=(first, total))
            return rest if done == 1 else None
        if done > len(groups):
            return None
        lengths = split(total - first, [1] * len(groups))
        begin = first + sum(lengths[: done - 1])
        return Stage(f"group-{done}", uniform(groups[done - 1]), lengths[done - 1], span=(begin, total))

    def _gains(self, history: History) -> dict[str, float]:
        """Return task -> gain in dB, which is measured once."""
        gains: dict[str, float] = self.state["gains"]
        for task in history.all_tasks:
            if task not in gains:
                gains[task] = self._gain(task, history.learner)
                log.info("unsatisfied, %s: %.2f dB gained by %d steps alone", task, gains[task], self.probe)
        return gains

    def _gain(self, task: str, learner: Learner) -> float:
        batch = learner.batch(task, UNDRAWN + torch.arange(self.samples))
        training = learner.model.training
        before = decibels(learner, batch, learner.model.eval())
        learner.model.train(training)
        return float((decibels(learner, batch, learner.fine_tuned(task, self.probe, self.rate)) - before).mean())


def groups_of(gains: Mapping[str, float], thresholds: Sequence[float]) -> list[list[str]]:
    """Return the groups that are not empty: per threshold, the tasks whose gain exceeds it and no higher one."""
    left, groups = dict(gains), []
    for threshold in thresholds:
        groups.append([task for task, gain in left.items() if gain > threshold])
        left = {task: gain for task, gain in left.items() if task not in groups[-1]}
    return [group for group in groups if group]


@torch.no_grad()
def decibels(learner: Learner, batch: Batch, network: nn.Module) -> Tensor:
    """Return the PSNR [B] in dB, float64, of the images that a network restores, clamped to [0, 1]."""
    restored = learner.restore(batch, network).restored.clamp(0, 1).double()
    return -10 * (restored - batch.clean.double()).square().mean((1, 2, 3)).clamp(min=1e-12).log10()
