"""Rows of unlabelled images next to labelled ones: their shares, and a curriculum whose rows need no truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import UNLABELLED, History, Learner, Row, Stage
from cmtl_ir.strategy.parts import Curriculum

from ._stages import uniform

KIND = "unlabelled"


def with_unlabelled(mixture: Mapping[str, float], tasks: Sequence[str], share: float) -> dict[str, float]:
    """Return a mixture in which rows `unlabelled:TASK` have `share` of the batch together, and all others the rest."""
    own = {task: part * (1 - share) for task, part in mixture.items()}
    return own | {f"{KIND}:{task}": share / len(tasks) for task in tasks}


def refuse_without_images(called: str, tasks: Sequence[str], learner: Learner) -> None:
    """Raise ConfigError if a task has no unlabelled images."""
    for task in tasks:
        try:
            learner.batch(task, torch.zeros(1, dtype=torch.int64), UNLABELLED)
        except ValueError as error:
            raise ConfigError(f"curriculum {called}: {error}") from error


class Unlabelled(Curriculum):
    """Joint training on labelled images, and on unlabelled ones by a loss that needs no truth."""

    share: float = Field(0.5, ge=0, le=1)
    """Share of the batch for the unlabelled images of all tasks together. 1: no labelled image is trained on."""
    weight: float = Field(1.0, ge=0)
    """Factor of the loss of the unlabelled rows, which the weighting does not weigh."""
    tasks: tuple[str, ...] = ()
    """Tasks with such rows. []: all tasks for which the loss is meant."""

    @property
    def acts(self) -> bool:
        """Whether there are unlabelled rows."""
        return self.share > 0 and self.weight > 0

    def named_tasks(self) -> Sequence[str]:
        return self.tasks

    def next_stage(self, history: History) -> Stage | None:
        """Return one stage with the whole budget. Raise ConfigError for tasks for which the loss is not meant."""
        if history.stages:
            return None
        mixture = uniform(history.all_tasks)
        if not self.acts:
            return Stage("joint", mixture, history.steps)
        chosen = [task for task in self.tasks or history.all_tasks if self._fits(task, history.learner)]
        if not chosen:
            raise ConfigError(f"curriculum {self.called}: no task of this run {self.meant_for}")
        refuse_without_images(self.called, chosen, history.learner)
        return Stage("joint", with_unlabelled(mixture, chosen, self.share), history.steps)

    def _fits(self, task: str, learner: Learner) -> bool:
        said = self.unfit(task, learner)
        if said and task in self.tasks:
            raise ConfigError(f"curriculum {self.called}: {task} {said}; leave it out of `tasks`")
        return not said

    def dress(self, row: Row, stage: Stage, learner: Learner) -> Row:
        """Return an unlabelled row with its images, its coefficient, and its loss or view."""
        if row.kind != KIND:
            return row
        own = self.without_truth(row.task, learner)
        return replace(row, coefficient=self.weight, images=UNLABELLED, auxiliary=False, **own)

    # ------------------------------------------------------------------------------------------------ of each loss

    meant_for: ClassVar[str] = ""
    """What the tasks are for which the loss is meant, after "no task of this run"."""

    def unfit(self, task: str, learner: Learner) -> str:
        """Return why the loss is not meant for a task, after its name; empty if it is."""
        raise TypeError(f"{type(self).__name__} does not say for which tasks it is meant")

    def without_truth(self, task: str, learner: Learner) -> dict[str, Any]:
        """Return `loss` or `view` of the unlabelled row of a task."""
        raise TypeError(f"{type(self).__name__} has no loss")
