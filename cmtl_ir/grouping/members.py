"""The ordinary runs that a grouped run stands on: its groups' and its proxies'. Their hashes know of no grouping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cmtl_ir.config.experiment import Strategy
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.runs.plan import Prepared
from cmtl_ir.runs.recorder import Progress
from cmtl_ir.store.layout import run_folder
from cmtl_ir.store.run import Run, hash_of
from cmtl_ir.tasks.task import Task
from cmtl_ir.tracking.store import Tracking

Execute = Callable[..., None]
"""`execution.execute`: it knows of grouped runs, so what grouped runs stand on is handed it instead of importing it."""


@dataclass
class Crew:
    """Makes and finishes the ordinary runs that one grouped run stands on."""

    prepared: Prepared
    tracking: Tracking
    parent: str
    label: str
    seed: int
    execute: Execute
    progress: Progress | None = None
    used: list[str] = field(default_factory=list)
    """Hashes of all runs made so far."""
    done: int = 0
    """Steps shown as made, of the runs that are finished."""

    @property
    def tasks(self) -> dict[str, Task]:
        """All tasks of the experiment under this seed."""
        return self.prepared.tasks[self.seed]

    def run(
        self, tasks: Sequence[str], strategy: Strategy, steps: int, kind: str, **changes: Any
    ) -> tuple[Run, Prepared]:
        """An ordinary run on some of the tasks, and what `runs.execute` wants beside it. `changes`: batch, conflict."""
        whole = self.prepared.experiment
        training = {"steps": steps} | ({"batch": changes["batch"]} if "batch" in changes else {})
        update: dict[str, Any] = {
            "name": f"{whole.name}.{kind}",
            "tasks": {task: whole.tasks[task] for task in whole.tasks if task in tasks},
            "training": whole.training.model_copy(update=training),
            "seeds": [self.seed],
            "strategies": {self.label: strategy},
        }
        if "conflict" in changes:
            update["conflict"] = whole.conflict.model_copy(update={"every": changes["conflict"]})
        if kind == "probes":
            update["evaluation"] = whole.evaluation.model_copy(update={"every": 0})
        experiment = whole.model_copy(update=update)
        own = {task: self.tasks[task] for task in experiment.tasks}
        identity = identity_of(experiment, strategy, self.seed, own)
        folder = run_folder(self.prepared.out, hash_of(identity))
        made = Run(f"{self.label}/{named(list(own))}", self.seed, strategy, identity, folder)
        if made.hash not in self.used:
            self.used.append(made.hash)
        return made, replace(self.prepared, experiment=experiment, tasks={self.seed: own}, runs=[made])

    def finished(self, run: Run, prepared: Prepared, counts: bool = False) -> Run:
        """Bring a run to its end: skipped, resumed or started. `counts`: its steps belong to the grouped run's."""
        shown = _After(self.progress, self.done) if self.progress is not None and counts else None
        self.execute(run, prepared, self.tracking, self.parent, shown, wait=True)
        if counts:
            self.done += prepared.experiment.training.steps
        return run


@dataclass
class _After:
    """Progress of a run that follows `done` steps of others."""

    progress: Progress
    done: int

    def advanced(self, step: int, losses: dict[str, float]) -> None:
        self.progress.advanced(self.done + step, losses)


def named(tasks: Sequence[str]) -> str:
    """A group's name in tables."""
    return "+".join(tasks[:4]) + (f"+{len(tasks) - 4} more" if len(tasks) > 4 else "")
