"""The work of an ordinary run: train one network, score it, and write its results."""

from __future__ import annotations

from cmtl_ir.base.ranks import current
from cmtl_ir.runs.execution import ActiveRun
from cmtl_ir.runs.results import write_results
from cmtl_ir.runs.watching.logs import ConflictWatcher, LossLog
from cmtl_ir.runs.watching.recorder import Recorder
from cmtl_ir.runs.watching.saving import Checkpoints
from cmtl_ir.runs.watching.scoring import Judging, Scoring
from cmtl_ir.runs.watching.watcher import Cadence
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import NonFinite


def train_run(active: ActiveRun) -> None:
    """Train the run from its last checkpoint, or from its start, until it is finished."""
    planned, folder, tracker = active.planned, active.run.folder, active.tracker
    learner, cadence = planned.learner(current()), Cadence.of(planned.experiment)
    recorder = Recorder(learner)
    conflict = recorder.add(ConflictWatcher(tracker))
    losses = recorder.add(LossLog(learner, folder, cadence, tracker, active.progress))
    scoring = recorder.add(Scoring(learner, planned.evaluator(), cadence, tracker))
    saving = recorder.add(Checkpoints(recorder, folder, cadence))
    if active.judge is not None:
        recorder.add(Judging(scoring, active.judge, saving.save))
    scoring.curve = planned.started(learner)
    recorder.resume(folder)
    tracker.rewind(learner.step)
    learner.ranks.told(learner.step)
    try:
        with saving.stopping_cleanly():
            train(learner, recorder)
    except NonFinite as error:
        raise losses.stopped_at(error, learner.step) from None
    write_results(active, recorder, scoring, conflict.log, saving)
