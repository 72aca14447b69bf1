"""Ensembles as runs.

Each constituent is an ordinary run. The ensemble is a run without steps that holds the weights of its constituents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmtl_ir.base.errors import UserError
from cmtl_ir.config.reading import neutral
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.runs.watching.watcher import Curve
from cmtl_ir.store import checkpoint
from cmtl_ir.store.folder import is_finished, latest_checkpoint, read_result
from cmtl_ir.store.layout import WEIGHTS, stage_folders
from cmtl_ir.store.run import hash_of
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.strategy.unlearning import Constituent, Ensemble, Program, Request
from cmtl_ir.training.learner import Learner
from cmtl_ir.unlearning.planning import Job, experiment_for, identity_for, named, planned


@dataclass(frozen=True)
class FromConstituents:
    """A start that collects the weights of finished runs in one ensemble."""

    folders: tuple[Path, ...]
    step: int = 0

    def __call__(self, learner: Learner) -> Curve:
        """Load the weights of the constituents in the order of `folders`."""
        members: Any = learner.model.members
        for member, folder in zip(members, self.folders, strict=True):
            member.load_state_dict(checkpoint.load_weights(folder / WEIGHTS)[0])
        return []


@dataclass(frozen=True)
class FromStage:
    """A start at the end of a stage of another run.

    If that run does not exist, training begins at the first step and leads to the same bits.
    """

    folder: Path
    stage: int

    def _saved(self) -> checkpoint.Checkpoint | None:
        folder = stage_folders(self.folder).get(self.stage)
        return checkpoint.load_latest(folder) if folder is not None else None

    @property
    def step(self) -> int:
        """Number of steps that are taken over from the other run."""
        saved = self._saved()
        return saved.step if saved is not None else 0

    def __call__(self, learner: Learner) -> Curve:
        """Load weights, counters and history, and return the curve up to the end of the stage."""
        saved = self._saved()
        if saved is None:
            return []
        learner.load_tree(saved.tree)
        whole = latest_checkpoint(self.folder)
        curve = whole.tree["recorder"]["curve"] if whole is not None else []
        if whole is None and is_finished(self.folder):  # scored again: it has no checkpoint of its own
            curve = read_result(self.folder)["curve"]
        return [point for point in curve if point["step"] <= learner.step]


def plan_ensemble(job: Job) -> list[PlannedRun]:
    """Plan the runs of the constituents, followed by the run of the ensemble."""
    method = job.method.model_copy(deep=True)
    assert isinstance(method, Ensemble)
    method.ask(Request(job.forget, job.retained))
    tree, experiment = job.origin.stage_end().tree, named(job.origin.experiment, job)
    counters = {task: tree["data"]["counters"].get(task, 0) for task in job.origin.kept}
    samples = {task: count for task, count in counters.items() if count > 0}
    remaining = method.constituents(samples, experiment.training.batch)
    if not remaining:
        raise UserError(f"{job.label}: nothing remains of the ensemble without {', '.join(job.forget)}")
    made = [_constituent(job, one) for one in remaining]
    return [*made, _ensemble(job, remaining, made)]


def _constituent(job: Job, one: Constituent) -> PlannedRun:
    identity = _identity(job, one, one.curriculum)
    begin = None
    if one.before is not None and one.same_stages > 0:
        before = hash_of(_identity(job, one, one.before))
        begin = FromStage(job.origin.folder.parent / before, one.same_stages)
    strategy = job.origin.strategy.model_copy(update={"curriculum": one.curriculum, "retention": None})
    return planned(job, f"{job.label}.{one.name}", named(job.origin.experiment, job), strategy, identity, begin)


def _identity(job: Job, one: Constituent, curriculum: Curriculum) -> dict[str, Any]:
    """Return the identity of an ordinary run on the tasks that the constituent reads.

    It also holds the numbers of these tasks, which explicit prompts see.
    """
    origin = job.origin
    tasks = origin.tasks
    strategy = origin.strategy.model_copy(update={"curriculum": curriculum, "retention": None})
    identity = identity_of(origin.experiment, strategy, origin.seed, {task: tasks[task] for task in one.tasks})
    return {**identity, "numbers": {task: list(tasks).index(task) for task in one.tasks}}


def _ensemble(job: Job, remaining: Sequence[Constituent], made: Sequence[PlannedRun]) -> PlannedRun:
    experiment = experiment_for(job, job.method.recipe())
    backbone = {"name": "ensemble", "of": job.origin.experiment.backbone, "members": len(made)}
    experiment = experiment.model_copy(update={"backbone": backbone})
    parts = [
        {"run": run.run.hash, "touched": one.touched, "same_stages": one.same_stages}
        for one, run in zip(remaining, made, strict=True)
    ]
    identity = identity_for(job, experiment, {"constituents": parts})
    strategy = neutral().model_copy(update={"curriculum": Program.of(job.method.stages())})
    begin = FromConstituents(tuple(run.run.folder for run in made))
    return planned(job, job.label, experiment, strategy, identity, begin)
