"""Work of all ranks after rank 0: the same steps of the same runs, without writing any file."""

from __future__ import annotations

from cmtl_ir.base.errors import ConfigError, TrainingError, UserError
from cmtl_ir.base.ranks import SKIP, Ranks
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.own_training import trained_under
from cmtl_ir.config.progressive import phases_of
from cmtl_ir.runs.plan import Comparison, PlannedRun, prepare
from cmtl_ir.runs.watching.logs import LossLog, NullSink
from cmtl_ir.runs.watching.recorder import Recorder
from cmtl_ir.runs.watching.saving import Saving
from cmtl_ir.runs.watching.watcher import Cadence
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import NonFinite


def follow(experiment: Experiment, workspace: Workspace, ranks: Ranks) -> Comparison:
    """Take part in all steps of rank 0, and return the comparison."""
    ranks.wait()  # until rank 0 has packed the images and set aside earlier results
    prepared, failures = prepare(experiment, workspace.out, workspace.device), {}
    for planned in prepared.planned:
        step = ranks.told()
        if step == SKIP:
            continue
        try:
            _train_along(planned, ranks, step)
        except (TrainingError, NonFinite) as error:
            failures[planned.run.name] = str(error)
    folder = workspace.out / experiment.name
    return Comparison(experiment, folder, prepared.runs, failures, workspace.tracking, "")


def _train_along(planned: PlannedRun, ranks: Ranks, step: int) -> None:
    """Train a run together with rank 0, which alone scores, saves and logs. Stop and fail where rank 0 does."""
    run, learner, cadence = planned.run, planned.learner(ranks), Cadence.of(planned.experiment)
    recorder = Recorder(learner)
    recorder.add(LossLog(learner, run.folder, cadence, NullSink()))
    saving = recorder.add(Saving(recorder, run.folder, cadence))
    planned.started(learner)
    if step > 0:
        recorder.resume(run.folder)
    if learner.step != step:
        raise UserError(
            f"rank 0 resumes from step {step} of {run.name}, but rank {ranks.number} found step {learner.step}: "
            f"{run.folder} must be a folder that all ranks share"
        )
    with saving.stopping_cleanly():
        train(learner, recorder)


def check(experiment: Experiment, ranks: Ranks, parallel: bool) -> None:
    """Raise UserError if several ranks cannot train an experiment. `parallel`: whether workers or Ray are requested."""
    if parallel:
        raise UserError("torchrun's processes share each run: --workers and --ray are for runs in one process each")
    own = [trained_under(experiment, one)[0].training for one in experiment.strategies.values()]
    batch = min(phase.batch for one in own for _, phase in phases_of(one.model_dump(mode="json"), 0))
    if batch < ranks.count:
        raise ConfigError(f"training.batch: {batch} samples per step are too few for {ranks.count} ranks")
    grouped = [label for label, strategy in experiment.strategies.items() if strategy.grouping is not None]
    if grouped:
        raise ConfigError(
            f"strategies.{grouped[0]}.grouping: the runs of a grouping are not shared among the processes of torchrun: "
            "start the same command without torchrun (--workers trains its groups in parallel)"
        )
    standing = [
        label for label, one in experiment.strategies.items() if one.curriculum.proxies(tuple(experiment.tasks))
    ]
    if standing:
        called = experiment.strategies[standing[0]].curriculum.called
        raise ConfigError(
            f"strategies.{standing[0]}.curriculum: the short runs that {called} stands on are not shared among the "
            "processes of torchrun: start the same command without torchrun"
        )
