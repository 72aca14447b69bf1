"""The ordinary runs of groups and proxies that a grouped run uses. Their hashes do not depend on the grouping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cmtl_ir.base.errors import TrainingError
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.reading import neutral
from cmtl_ir.runs.begin.outside import as_outside, existing_model
from cmtl_ir.runs.begin.weights import weights_of_named_runs
from cmtl_ir.runs.execution import execute
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.runs.parallel import run_in_processes
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.runs.workspace import Progress, Workspace
from cmtl_ir.store.layout import run_folder
from cmtl_ir.store.run import Run, hash_of
from cmtl_ir.tasks.task import Task


@dataclass
class Members:
    """Plan and train the ordinary runs that one grouped run uses."""

    whole: PlannedRun
    """The grouped run."""
    workspace: Workspace
    parent: str
    """Id of the MLflow run that stands for the comparison."""
    progress: Progress | None = None
    used: list[str] = field(default_factory=list)
    """Hashes of all runs planned so far."""
    done: int = 0
    """Steps of the finished runs that count as steps of the grouped run."""

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks of the grouped run."""
        return self.whole.tasks

    @property
    def experiment(self) -> Experiment:
        """Experiment of the grouped run."""
        return self.whole.experiment

    @property
    def seed(self) -> int:
        """Seed of the grouped run."""
        return self.whole.run.seed

    def plan(self, tasks: Sequence[str], strategy: Strategy, steps: int, kind: str, **changes: Any) -> PlannedRun:
        """Plan an ordinary run on some of the tasks.

        `changes` may hold another `batch`, or as `conflict` the number of steps between conflict logs.
        """
        experiment, label = self._experiment(tasks, strategy, steps, kind, changes), self.whole.run.label
        own = {task: self.tasks[task] for task in experiment.tasks}
        begun = self.whole.weights.identity if self.whole.weights is not None else None
        runs = weights_of_named_runs(strategy, self.workspace.out)
        identity = identity_of(experiment, strategy, self.seed, own, begun, runs)
        run = Run(f"{label}/{named(list(own))}", self.seed, identity, run_folder(self.workspace.out, hash_of(identity)))
        if run.hash not in self.used:
            self.used.append(run.hash)
        return PlannedRun(run, experiment, own, strategy, self.whole.device, weights=self.whole.weights)

    def plan_ready(self, tasks: Sequence[str], source: str) -> PlannedRun:
        """Plan the run of a group whose network exists: `source` is a finished run or a file of weights.

        Raises UserError if there is no such network or if it does not fit the backbone.
        """
        experiment = self._experiment(tasks, neutral(), self.experiment.training.steps, "groups", {})
        own = {task: self.tasks[task] for task in experiment.tasks}
        model = existing_model(experiment, source, self.seed, self.workspace.out)
        identity, name = identity_of(experiment, neutral(), self.seed, own), named(list(own))
        folder = run_folder(self.workspace.out, hash_of(identity))
        run = Run(f"{self.whole.run.label}/{name}", self.seed, identity, folder)
        planned = as_outside(PlannedRun(run, experiment, own, neutral(), self.whole.device), model)
        self.used.append(planned.run.hash)
        return planned

    def _experiment(
        self, tasks: Sequence[str], strategy: Strategy, steps: int, kind: str, changes: dict[str, Any]
    ) -> Experiment:
        whole = self.experiment
        training: dict[str, Any] = {"steps": steps} | ({"batch": changes["batch"]} if "batch" in changes else {})
        update: dict[str, Any] = {
            "name": f"{whole.name}.{kind}",
            "tasks": {task: whole.tasks[task] for task in whole.tasks if task in tasks},
            "training": whole.training.model_copy(update=training),
            "seeds": [self.seed],
            "strategies": {self.whole.run.label: strategy},
        }
        if "conflict" in changes:
            update["conflict"] = whole.conflict.model_copy(update={"every": changes["conflict"]})
        if kind == "probes":
            update["training"] = update["training"].model_copy(update={"progressive": None})
            update["evaluation"] = whole.evaluation.model_copy(update={"every": 0})
        return whole.model_copy(update=update)

    def train(self, planned: PlannedRun, counts: bool = False) -> Run:
        """Train a run until it is finished. If `counts` is true, show its steps as steps of the grouped run."""
        progress = self.progress if counts else None
        bar = _Offset(progress, self.done) if progress is not None else None
        workspace = replace(self.workspace, progress=(lambda run: bar) if bar is not None else None)
        execute(planned, workspace, self.parent, wait=True)
        if counts:
            self.done += planned.experiment.training.steps
        return planned.run

    def train_groups(self, planned: Sequence[PlannedRun]) -> list[Run]:
        """Train the runs of all groups, in other processes if the workspace is parallel.

        Raises TrainingError if a run fails.
        """
        if self.workspace.parallel and (failed := run_in_processes(planned, self.workspace, self.parent)):
            raise TrainingError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
        return [self.train(one, counts=True) for one in planned]


@dataclass(frozen=True)
class _Offset:
    """Progress of a run after `done` steps of other runs."""

    progress: Progress
    done: int

    def advanced(self, step: int, losses: dict[str, float]) -> None:
        self.progress.advanced(self.done + step, losses)

    def happened(self, step: int | None, what: str) -> None:
        self.progress.happened(None if step is None else self.done + step, what)


def named(tasks: Sequence[str]) -> str:
    """Return the name of a group in tables."""
    return "+".join(tasks[:4]) + (f"+{len(tasks) - 4} more" if len(tasks) > 4 else "")
