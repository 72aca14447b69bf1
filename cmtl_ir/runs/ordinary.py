"""The work of an ordinary run: train one network, score it, and write its results."""

from __future__ import annotations

from cmtl_ir.base.ranks import current
from cmtl_ir.runs.execution import ActiveRun
from cmtl_ir.runs.recorder import Recorder, intervals
from cmtl_ir.runs.results import write_results
from cmtl_ir.store.folder import latest_checkpoint
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import NonFinite


def train_run(active: ActiveRun) -> None:
    """Train the run from its last checkpoint, or from its start, to the end."""
    planned, run = active.planned, active.run
    learner = planned.learner(current())
    recorder = Recorder(
        learner,
        planned.evaluator(),
        run.folder,
        run.hash,
        intervals(planned.experiment),
        active.tracker,
        active.progress,
        active.judge,
    )
    recorder.curve = planned.started(learner)
    saved = latest_checkpoint(run.folder)
    if saved is not None:
        recorder.load(saved.tree)
    active.tracker.rewind(learner.step)
    learner.ranks.told(learner.step)
    try:
        with recorder.stopping_cleanly():
            train(learner, recorder)
    except NonFinite as error:
        raise recorder.stopped_at(error, learner.step) from None
    write_results(active, learner, recorder)
