"""The auxiliary objectives of a stage: which of them are active in a step, and their terms in the rows' losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cmtl_ir.backbones.sources import reads_task_number
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Batch, Row, StepContext
from cmtl_ir.strategy.objective import Constants, Objective, active
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.samples import Samples


class Auxiliaries:
    """The auxiliary objectives of one run during the steps of a stage."""

    def __init__(self, learner: Learner) -> None:
        """Raise ConfigError if the tasks cannot provide what an objective needs."""
        self.learner = learner
        self.objectives = {one.label: one for one in learner.strategy.auxiliary}
        self.weights: Mapping[str, float] = {}
        self._constants: dict[str, Mapping[str, Constants]] = {}
        for objective in self.objectives.values():
            _refuse_what_is_missing(objective, learner)

    @property
    def weighed(self) -> bool:
        """Whether weighting and surgery see the sums of all objectives instead of the restoration losses."""
        return bool(self.weights) and self.learner.strategy.weighting_sees == "total"

    def prepare(self, drawn: Samples, context: StepContext) -> None:
        """Determine which objectives are active in this step, and let them prepare their constants."""
        if not self.objectives:
            return
        assert self.learner.stage is not None
        self.weights = active(list(self.objectives.values()), self.learner.stage, self.learner.stage_step)
        self._constants = {}
        for label in self.weights:
            objective = self.objectives[label]
            rows = zip(drawn.rows, drawn.batches, strict=True)
            batches = {row.name: batch for row, batch in rows if carries(row, objective)}
            with torch.no_grad():
                self._constants[label] = objective.prepare(batches, self.learner, context)

    def of_row(self, row: Row) -> list[str]:
        """Return the labels of the objectives that are active on a row in this step."""
        return [label for label in self.weights if carries(row, self.objectives[label])]

    def term(self, label: str, output: Output, row: Row, batch: Batch, window: tuple[int, int]) -> Tensor:
        """Return w A(i) [n] of one objective for a window (start, stop) of a row's samples held by this process."""
        constants = self._constants[label].get(row.name, Constants(row.name)).part(*window)
        return self.weights[label] * self.objectives[label].losses(output, batch, constants)

    def total(self, losses: Tensor, output: Output, row: Row, batch: Batch, window: tuple[int, int]) -> Tensor:
        """Return l_i + sum_a w_a A_a(i) [n], or the losses themselves if no objective is active on the row."""
        for label in self.of_row(row) if len(batch.ids) else ():
            losses = losses + self.term(label, output, row, batch, window)
        return losses

    def after_step(self) -> None:
        """Notify the active objectives that the optimizer has made its step."""
        for label in self.weights:
            self.objectives[label].after_step(self.learner)


def carries(row: Row, objective: Objective) -> bool:
    """Return whether a row carries an objective: stage rows do, and with `rows: all` every row that allows it."""
    return row.auxiliary and ((row.coefficient is None and not row.projected) or objective.rows == "all")


def _refuse_what_is_missing(objective: Objective, learner: Learner) -> None:
    """Raise ConfigError if the tasks or the backbone of the run cannot provide what the objective needs."""
    if "teacher:single" in objective.needs:
        for task in learner.tasks:
            learner.teacher(task)
    if not objective.needs & {"others", "prompt"}:
        return
    if len(learner.tasks) < 2:
        raise ConfigError(f"auxiliary {objective.label} needs other tasks, but the run has {learner.tasks[0]} alone")
    if "prompt" in objective.needs and not reads_task_number(learner.backbone):
        raise ConfigError(
            f"auxiliary {objective.label} restores an image under another task's number, but the backbone does not "
            "read it; use one that does, such as srresnet with prompt: explicit"
        )
    for task in learner.tasks if "others" in objective.needs else ():
        try:
            learner.batch(task, torch.zeros(1, dtype=torch.int64), images=task)
        except ValueError as error:
            raise ConfigError(f"auxiliary {objective.label} needs every task's degradation: {error}") from error
