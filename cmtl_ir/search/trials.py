"""Execution of a search. Trials are ordinary runs, scored on validation images. A finished run is never repeated."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.study import Study
from optuna.trial import Trial

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, Diverged, Pruned, TrainingError, UserError
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.processes.job import Job
from cmtl_ir.processes.pool import starter, work_off
from cmtl_ir.runs import plan as plans
from cmtl_ir.runs.execution import execute
from cmtl_ir.runs.plan import Prepared
from cmtl_ir.runs.probes import probe
from cmtl_ir.runs.workspace import Progress, Workspace
from cmtl_ir.search.config import Plan
from cmtl_ir.search.optuna_study import open_study, storage_file
from cmtl_ir.search.queue import CPU, FREE, REASON, Queue, TrialFailed
from cmtl_ir.search.report import best_trials, leave_tables
from cmtl_ir.search.scores import Report, scores_of
from cmtl_ir.store import listing
from cmtl_ir.store.layout import LOGS
from cmtl_ir.store.run import Run
from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tracking.store import Tracking

RUNS = "runs"
"""User attribute of a trial: seed -> hash of its run."""


@dataclass(frozen=True)
class Found:
    """A finished study, and the files of its tables and best settings."""

    study: Study
    folder: Path
    files: list[Path]
    tracking: Tracking


class Shown(Protocol):
    """A display of the progress of a search."""

    def of_run(self, run: Run) -> Progress:
        """Return the progress display of a run that a trial starts."""

    def of_study(self, study: Study, plan: Plan) -> None:
        """Show the state of the study. Called whenever trials may have ended."""


def search(plan: Plan, workspace: Workspace, shown: Shown | None = None) -> Found:
    """Finish a study together with all other processes that work on it, and write its tables.

    The same call resumes a study that was stopped or killed, and joins one on which other processes work.
    """
    prepared = prepare(plan, workspace)
    folder = listing.claim_folder(prepared.experiment.resolved(), workspace.out)
    study, tracking = open_study(plan, folder), workspace.tracking
    if workspace.parallel:
        _in_processes(plan, prepared, study, workspace, shown)
    else:
        work(plan, workspace, shown)
    if shown is not None:
        shown.of_study(study, plan)
    files = leave_tables(plan, study, folder)
    parent = parent_of(plan, tracking)
    tracking.publish(parent, files)
    if best := best_trials(study):
        figures = dict(zip((f"best/{name}" for name in plan.search.objectives), best[0].values, strict=True))
        tracking.conclude(parent, figures, {"best": f"trial-{best[0].number:04d}"}, ended=True)
    return Found(study, folder, files, tracking)


def parent_of(plan: Plan, tracking: Tracking) -> str:
    """Return the id of the MLflow run that stands for the search."""
    return tracking.parent(plan.name, {"search.study": plan.name}, yaml.dump(plan.payload()))


def prepare(plan: Plan, workspace: Workspace) -> Prepared:
    """Return the experiment of the first setting with its data and runs.

    Every mistake that can be found before the first trial is raised here.
    """
    prepared = plans.prepare(plan.check(), workspace.out, workspace.device)
    probe(prepared)
    for tasks in prepared.tasks.values():
        if Evaluator(tasks, prepared.experiment.evaluation.protocol, 64, prepared.device).validation() is None:
            raise UserError(
                f"{plan.name}: a search is scored on validation images, never on test images, and there are none: set "
                "data.val to a share of the training images (`--set data.val=0.2`) or to a folder"
            )
    if plan.search.pruner and plan.search.reports == "steps" and not prepared.experiment.evaluation.every:
        raise ConfigError(f"{plan.name}: a pruner needs evaluations during training: set evaluation.every")
    if plan.search.pruner and plan.search.reports == "seeds" and len(prepared.experiment.seeds) < 2:
        raise ConfigError(f"{plan.name}: search.prune_on: seeds needs several seeds")
    return prepared


def work(plan: Plan, workspace: Workspace, shown: Shown | None = None) -> None:
    """Take trials of the study until none is left. Every process of a search does this."""
    folder = workspace.out / plan.name
    file = storage_file(plan, folder)
    queue = Queue(
        open_study(plan, folder), plan.places, folder if file is None else file.parent, plan.search.heartbeat,
        plan.search.retries, shared=file is not None, points=plan.points,
    )  # fmt: skip
    try:
        queue.work_off(Trials(plan, workspace, queue.study, shown))
    finally:
        queue.leave()


def _in_processes(plan: Plan, prepared: Prepared, study: Study, workspace: Workspace, shown: Shown | None) -> None:
    payload = {
        "call": "cmtl_ir.search.trials:take_trials",
        "plan": plan.payload(),
        "out": str(workspace.out.resolve()),
        "device": str(prepared.device),
        "tracking_uri": workspace.tracking.uri,
    }
    logs = workspace.out / plan.name / LOGS
    look = (lambda: shown.of_study(study, plan)) if shown is not None else (lambda: None)
    jobs = [
        Job(f"worker {n}", payload, logs / f"worker-{n}.txt", look=look if n == 0 else _nothing)
        for n in range(workspace.workers)
    ]
    parent_of(plan, workspace.tracking)  # create the store once, before all workers open it
    with starter(workspace.workers, str(prepared.device), workspace.ray) as start:
        failures = work_off(jobs, workspace.workers, start)
    if failures:
        raise UserError("; ".join(f"{name}: {reason}" for name, reason in failures.items()))


def _nothing() -> None:
    return None


class Trials:
    """The objective of a study: trains the runs of a trial and returns their scores."""

    def __init__(self, plan: Plan, workspace: Workspace, study: Study, shown: Shown | None = None) -> None:
        self.plan, self.study, self.shown = plan, study, shown
        self.workspace = replace(workspace, progress=shown.of_run if shown is not None else None)
        self.parent = parent_of(plan, workspace.tracking)

    def __call__(self, trial: Trial) -> list[float]:
        """Return the values of the trial in the order of the objectives, as means over its seeds."""
        if self.shown is not None:
            self.shown.of_study(self.study, self.plan)
        started = time.process_time()
        try:
            return self._train(trial)
        except Pruned as stopped:
            raise optuna.TrialPruned(str(stopped)) from None
        except optuna.TrialPruned:
            raise
        except Exception as error:
            if isinstance(error, UserError) and not isinstance(error, TrainingError | ConfigError | DataError):
                trial.set_user_attr(FREE, "interrupted")  # Ctrl-C or a full disk: the setting may be good
                raise
            trial.set_user_attr(REASON, f"{type(error).__name__}: {error}")
            if isinstance(error, Diverged) and len(self.plan.search.objectives) == 1:
                raise optuna.TrialPruned(str(error)) from error  # samplers learn from pruned trials only
            raise TrialFailed(str(error)) from error
        except KeyboardInterrupt:
            trial.set_user_attr(FREE, "interrupted")
            raise
        finally:
            trial.set_user_attr(CPU, time.process_time() - started)

    def _train(self, trial: Trial) -> list[float]:
        label = f"trial-{trial.number:04d}"
        experiment = self.plan.experiment(self.plan.values(trial), label)
        prepared = plans.prepare(experiment, self.workspace.out, self.workspace.device)
        trial.set_user_attr(RUNS, {str(run.seed): run.hash for run in prepared.runs})
        self._list(prepared.runs)
        tags = {"search.study": self.plan.name, "search.trial": str(trial.number)}
        tags |= {f"search.{tag_name(name)}": str(value) for name, value in trial.params.items()}
        scores: list[dict[str, float]] = []
        for planned in prepared.planned:
            report = Report(trial, self.plan, experiment.training.steps, list(scores))
            tagged = replace(planned, run=replace(planned.run, tags=tags))
            execute(tagged, self.workspace, self.parent, report.at_evaluation, wait=True)
            result = planned.run.result()
            scores.append(scores_of(result))
            report.at_the_end(result, scores, last=len(scores) == len(prepared.planned))
        return [sum(one[name] for one in scores) / len(scores) for name in self.plan.search.objectives]

    def _list(self, listed: Sequence[Run]) -> None:
        """Add the runs to the list of the search, in which `cmtl-ir restore SEARCH/trial-0007` finds them."""
        rows = [{"label": run.label, "seed": run.seed, "hash": run.hash} for run in listed]
        listing.list_runs(self.workspace.out / self.plan.name, rows)


def tag_name(parameter: str) -> str:
    """Return the name of a parameter in the form that MLflow accepts."""
    name = parameter.replace("[", ".").replace("]", "")
    return re.sub(r"\.\.+", ".", re.sub(r"[^\w./ :-]", "_", name, flags=re.ASCII))[:200]


def take_trials(job: Mapping[str, Any]) -> None:
    """Work on the trials of a study until none is left. This is the job of a worker."""
    work(Plan.of(job["plan"]), Workspace.at(job["out"], job["device"], job["tracking_uri"]))
