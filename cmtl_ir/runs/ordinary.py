"""The work of an ordinary run: train one network, score it, and write its results."""

from __future__ import annotations

from pathlib import Path

from cmtl_ir.base.ranks import SKIP, current
from cmtl_ir.runs.execution import ActiveRun
from cmtl_ir.runs.rescoring import score_again, trained_alike
from cmtl_ir.runs.results import write_results
from cmtl_ir.runs.watching.announcing import Announcing
from cmtl_ir.runs.watching.logs import ConflictWatcher, LossLog
from cmtl_ir.runs.watching.recorder import Recorder
from cmtl_ir.runs.watching.saving import Checkpoints
from cmtl_ir.runs.watching.scoring import Judging, Scoring
from cmtl_ir.runs.watching.selecting import Selecting
from cmtl_ir.runs.watching.watcher import Cadence
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import NonFinite


def train_run(active: ActiveRun) -> None:
    """Train the run from its last checkpoint, or from its start, until it is finished."""
    if (trained := _trained_before(active)) is not None:
        current().told(SKIP)
        score_again(active, trained)
        return
    planned, folder, tracker = active.planned, active.run.folder, active.tracker
    learner, cadence = planned.learner(current()), Cadence.of(planned.experiment)
    recorder = Recorder(learner)
    conflict = recorder.add(ConflictWatcher(tracker))
    losses = recorder.add(LossLog(learner, folder, cadence, tracker, active.progress))
    scoring = recorder.add(Scoring(learner, planned.evaluator(), cadence, tracker))
    if planned.experiment.training.selects:
        recorder.add(Selecting(scoring))
    saving = recorder.add(Checkpoints(recorder, folder, cadence))
    if active.progress is not None:
        recorder.add(Announcing(scoring, saving, active.progress))
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


def _trained_before(active: ActiveRun) -> Path | None:
    """Return the folder of a finished run with the same training, or `None`.

    A search must see every evaluation, and a run that starts from another run is trained from there.
    """
    ordinary = active.judge is None and active.planned.begin is None and active.planned.rescorable
    ordinary = ordinary and active.run.status == "new"
    return trained_alike(active.run) if ordinary else None
