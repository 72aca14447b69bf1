"""What the ranks after the first do: the same steps of the same runs, and nothing that leaves a trace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cmtl_ir.base.errors import ConfigError, TrainingError, UserError
from cmtl_ir.base.ranks import SKIP, Ranks
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.runs.execution import intervals
from cmtl_ir.runs.plan import Comparison, Prepared, prepare
from cmtl_ir.runs.recorder import Recorder
from cmtl_ir.store.folder import latest_checkpoint
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.data import Stage
from cmtl_ir.tracking.store import Tracking
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import NonFinite, StepResult


class Nowhere:
    """A sink that keeps nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See Sink."""


class Onlooker(Recorder):
    """Stops when rank 0's recorder stops and fails where it fails; scores, saves and logs nothing."""

    def evaluate(self, stage_end: str | None) -> None:
        """Rank 0 does."""

    def save(self) -> None:
        """Rank 0 does, after the same check."""
        self.check()

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        """Before a stage's end is saved, its last losses are checked here too."""
        self.check()

    def _log_conflict(self, step: int, result: StepResult) -> None:
        pass


def follow(experiment: Experiment, out: Path, device: str, tracking: Tracking, ranks: Ranks) -> Comparison:
    """Make all steps that rank 0 makes."""
    ranks.wait()  # until rank 0 has packed the images and set aside what it does anew
    prepared, failures = prepare(experiment, out, device), {}
    for run in prepared.runs:
        step = ranks.told()
        if step == SKIP:
            continue
        try:
            _train_along(run, prepared, ranks, step)
        except (TrainingError, NonFinite) as error:
            failures[run.name] = str(error)
    return Comparison(experiment, out / experiment.name, prepared.runs, failures, tracking, "")


def _train_along(run: Run, prepared: Prepared, ranks: Ranks, step: int) -> None:
    experiment, tasks = prepared.experiment, prepared.tasks[run.seed]
    learner = Learner(experiment, run.strategy, tasks, run.seed, prepared.device, ranks)
    evaluator = Evaluator(tasks, experiment.evaluation.protocol, experiment.evaluation.tile, prepared.device)
    watcher = Onlooker(learner, evaluator, run.folder, run.hash, intervals(experiment), Nowhere())
    if run.begin is not None:
        run.begin(learner, watcher)
    saved = latest_checkpoint(run.folder) if step > 0 else None
    if saved is not None:
        watcher.load(saved.tree)
    if learner.step != step:
        raise UserError(
            f"rank 0 goes on from step {step} of {run.name}, rank {ranks.number} found step {learner.step}: "
            f"{run.folder} must be a folder that all ranks share"
        )
    with watcher.stopping_cleanly():
        train(learner, watcher)


def check(experiment: Experiment, ranks: Ranks, apart: bool) -> None:
    """Raise where an experiment cannot be trained by several ranks; `apart`: by workers or Ray."""
    if apart:
        raise UserError("torchrun's processes share each run: --workers and --ray are for runs in one process each")
    if experiment.training.batch < ranks.count:
        raise ConfigError(
            f"training.batch: {experiment.training.batch} samples a step are too few for {ranks.count} ranks"
        )
    grouped = [label for label, strategy in experiment.strategies.items() if strategy.grouping is not None]
    if grouped:
        raise ConfigError(
            f"strategies.{grouped[0]}.grouping: a grouping's runs are not shared among the processes of torchrun: "
            "start the same command without torchrun (--workers trains its groups side by side)"
        )
