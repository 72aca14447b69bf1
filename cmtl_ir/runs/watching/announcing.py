"""Announcements of a run: its evaluations and checkpoints, for a display that has no bar."""

from __future__ import annotations

from collections.abc import Mapping

from cmtl_ir.runs.watching.saving import Saving
from cmtl_ir.runs.watching.scoring import Scoring
from cmtl_ir.runs.watching.watcher import RunWatcher
from cmtl_ir.runs.workspace import Progress
from cmtl_ir.strategy.data import Stage
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult


class Announcing(RunWatcher):
    """Tell a display of every evaluation and checkpoint. To be added after the watchers that make them."""

    def __init__(self, scoring: Scoring, saving: Saving, progress: Progress) -> None:
        self.scoring, self.saving, self.progress = scoring, saving, progress
        self._scored, self._saved = len(scoring.curve), saving.saved

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        self._scored, self._saved = len(self.scoring.curve), self.saving.saved

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        self._announce(learner.step)

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        self._announce(learner.step)

    def _announce(self, step: int) -> None:
        if len(self.scoring.curve) > self._scored:
            self.progress.happened(step, evaluated(self.scoring.curve[-1]["psnr"]))
        if self.saving.saved != self._saved:
            self.progress.happened(step, CHECKPOINT)
        self._scored, self._saved = len(self.scoring.curve), self.saving.saved


CHECKPOINT = "checkpoint written"
"""What a display is told of a checkpoint."""


def evaluated(psnr: Mapping[str, float | None]) -> str:
    """Return what a display is told of an evaluation: the PSNR of each task in dB."""
    return "PSNR " + ", ".join(f"{task} {score:.2f}" for task, score in psnr.items() if score is not None) + " dB"
