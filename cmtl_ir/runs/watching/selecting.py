"""Selection on validation images: the best weights of a stage are kept, and a stage may end early."""

from __future__ import annotations

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.measures.curve import task_means
from cmtl_ir.runs.watching.scoring import Scoring
from cmtl_ir.runs.watching.watcher import RunWatcher, at_stage_end
from cmtl_ir.strategy.data import Stage
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult


class Selecting(RunWatcher):
    """Offer the weights of each evaluation to `learner.selection`, by the scores of validation images alone.

    The score is the mean or smallest PSNR of the tasks that are learned so far. The last step of a stage counts as an
    evaluation too. Must be called after `scoring`.
    """

    def __init__(self, scoring: Scoring) -> None:
        """Raises ConfigError if a task has no validation images."""
        self.scoring = scoring
        if scoring.validator is None:
            raise ConfigError("training.keep_best and training.stop_early need validation images; set data.val")

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        ends = at_stage_end(learner)
        if not (ends or self.scoring.cadence.evaluates(learner)):
            return
        scores = task_means(self.scoring.validated()) if ends else self.scoring.curve[-1]["val"]["psnr"]
        kept, patience = learner.training.keep_best, learner.training.stop_early
        weights = learner.evaluated_weights() if kept is not None else None
        values = [scores[task] for task in _learned(learner) if task in scores]
        worst = kept is not None and kept.on == "worst_psnr"
        learner.selection.offer(min(values) if worst else sum(values) / len(values), learner.step, weights)
        if patience is not None and learner.selection.waited >= patience.patience:
            learner.stop_stage()

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        self.scoring.sink.log(learner.step, {"selected_step": learner.selection.step})
        learner.selection.weights = None  # the model has them by now


def _learned(learner: Learner) -> list[str]:
    """Return the tasks of the stages so far, the current one included, without those that the run must never see."""
    stages: list[Stage] = [*learner.finished, *([learner.stage] if learner.stage is not None else [])]
    named = {row.rpartition(":")[2] for stage in stages for row in stage.mixture}
    seen = [task for task in learner.tasks if task not in learner.excluded]
    return [task for task in seen if task in named] or seen
