"""Plans into runs: what is finished is skipped, what was killed goes on, what is missing starts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from cmtl_ir import checkpoint, yaml
from cmtl_ir.config import Experiment, Strategy
from cmtl_ir.continual import summary
from cmtl_ir.distributed import SKIP, current
from cmtl_ir.environment import environment
from cmtl_ir.errors import TrainingError, UserError
from cmtl_ir.evaluation import Evaluator, task_means
from cmtl_ir.identity import hash_of, identity_of
from cmtl_ir.learner import Learner, pick_device
from cmtl_ir.recorder import Judge, Progress, Recorder
from cmtl_ir.step import NonFinite
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from cmtl_ir.tracking import RunTracker, Tracking
from cmtl_ir.training import train

Status = Literal["finished", "killed", "new"]


@dataclass(frozen=True)
class Run:
    """One strategy under one seed: what it is and where it lives."""

    label: str
    seed: int
    strategy: Strategy
    identity: dict[str, Any]
    folder: Path
    tags: dict[str, str] = field(default_factory=dict)
    """For the tracking store; no part of what the run is."""
    begin: Callable[[Learner, Recorder], None] | None = None
    """Brings a fresh learner to where this run starts (other weights, struck tasks); called before a resume too."""

    @property
    def hash(self) -> str:
        """The run's name in the store."""
        return hash_of(self.identity)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.label}, seed {self.seed}"

    @property
    def status(self) -> Status:
        """finished, killed (a checkpoint to go on from) or new."""
        if (self.folder / "result.json").is_file():
            return "finished"
        return "killed" if checkpoint.newest_step(self.folder / "checkpoints") is not None else "new"

    @property
    def folders(self) -> list[Path]:
        """Its own, and those of the runs that a grouped one stands on."""
        uses = self.folder / "uses.json"
        names = json.loads(uses.read_text()) if uses.is_file() else []
        return [self.folder, *(self.folder.parent / name for name in names)]

    def result(self) -> dict[str, Any]:
        """Scores, curve and cost of a finished run."""
        return json.loads((self.folder / "result.json").read_text())


@dataclass(frozen=True)
class Comparison:
    """The runs of one experiment and where its tables and figures go."""

    experiment: Experiment
    folder: Path
    runs: list[Run]
    failures: dict[str, str]
    tracking: Tracking
    parent: str
    """The MLflow run that stands for the comparison."""

    def results(self) -> list[dict[str, Any]]:
        """The results of the finished runs, each with its label."""
        return [{"label": run.label, **run.result()} for run in self.runs if run.status == "finished"]


@dataclass(frozen=True)
class Prepared:
    """An experiment with its data found and its runs planned, before anything is trained."""

    experiment: Experiment
    tasks: dict[int, dict[str, Task]]
    runs: list[Run]
    out: Path
    device: torch.device


def prepare(experiment: Experiment, out: Path, device: str = "auto") -> Prepared:
    """Find the data and plan the runs; every mistake that needs no training to be found is found here."""
    chosen = pick_device(device)
    tasks = {seed: build_tasks(experiment.tasks, experiment.data, seed, chosen) for seed in experiment.seeds}
    planned = []
    for label, strategy in experiment.strategies.items():
        if strategy.grouping is not None:
            from cmtl_ir.grouping.runs import check

            check(label, strategy, tasks[experiment.seeds[0]])
        for seed in experiment.seeds:
            identity = identity_of(experiment, strategy, seed, tasks[seed])
            planned.append(Run(label, seed, strategy, identity, out / "store" / hash_of(identity)))
    return Prepared(experiment, tasks, planned, out, chosen)


def run(
    experiment: Experiment,
    out: str | Path = "runs",
    device: str = "auto",
    fresh: bool = False,
    tracking_uri: str | None = None,
    progress: Callable[[Run], Progress] | None = None,
    workers: int = 1,
    ray: str | None = None,
) -> Comparison:
    """Train every strategy under every seed and score it. Returns the comparison; failed runs are named in it.

    Running again skips finished runs and resumes killed ones; `fresh` moves earlier results of these runs aside.
    `workers`: so many runs at once, each in a process of its own; `ray`: on that Ray cluster, or `local`.
    Under torchrun, within `distributed.joined()`, the ranks make each run's steps together, and rank 0 writes.
    """
    ranks, apart = current(), workers > 1 or ray is not None
    if ranks.count > 1:
        from cmtl_ir import distributed_runs

        distributed_runs.check(experiment, ranks, apart)
        if ranks.number > 0:
            return distributed_runs.follow(experiment, Path(out), device, Tracking(tracking_uri, Path(out)), ranks)
    prepared = prepare(experiment, Path(out), device)
    folder = claim_folder(experiment, prepared.out, fresh)
    tracking = Tracking(tracking_uri, prepared.out)
    parent = tracking.parent(experiment.name, {}, yaml.dump(experiment.resolved()))
    listed = [{"label": one.label, "seed": one.seed, "hash": one.hash} for one in prepared.runs]
    (folder / "runs.json").write_text(json.dumps(merged_rows(folder / "runs.json", listed), indent=1))
    for one in prepared.runs if fresh else ():
        for folder_of_it in one.folders:
            set_aside(folder_of_it)
    ranks.wait()
    failures = in_turn(prepared, tracking, parent, progress, only_finished=apart)
    if apart:
        from cmtl_ir.workers import side_by_side

        failures |= side_by_side(prepared, tracking, parent, progress, workers, ray)
    return Comparison(experiment, folder, prepared.runs, failures, tracking, parent)


def in_turn(
    prepared: Prepared,
    tracking: Tracking,
    parent: str,
    progress: Callable[[Run], Progress] | None = None,
    only_finished: bool = False,
) -> dict[str, str]:
    """Bring the runs to their end one after the other, or only list those that are; name of a run -> why it failed."""
    failures: dict[str, str] = {}
    for one in prepared.runs:
        if only_finished and one.status != "finished":
            continue
        try:
            execute(one, prepared, tracking, parent, progress(one) if progress else None)
        except TrainingError as error:
            failures[one.name] = str(error)
    return failures


def claim_folder(experiment: Experiment, out: Path, fresh: bool = False) -> Path:
    """The comparison's folder, with the resolved experiment in it. Refuses one that belongs to another experiment."""
    folder = out / experiment.name
    file = folder / "experiment.yaml"
    text = yaml.dump(experiment.resolved())
    if file.is_file() and not fresh:
        before, now = yaml.read(file), yaml.parse(text)
        other = [key for key in ("tasks", "data", "backbone", "training", "evaluation") if before[key] != now[key]]
        if other:
            raise UserError(
                f"{folder} holds another experiment of the name {experiment.name!r}: it differs in {', '.join(other)}. "
                "Give this one its own name (--set name=NEW), another folder (--out FOLDER), or --fresh to replace "
                "the tables (finished runs stay in the store)"
            )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return folder


def merged_rows(file: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of an earlier call with those of this one: label and seed name a row."""
    before = json.loads(file.read_text()) if file.is_file() else []
    by_name = {(row["label"], row["seed"]): row for row in [*before, *rows]}
    return list(by_name.values())


def set_aside(folder: Path) -> None:
    """Rename an earlier run's folder: nothing is deleted."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"))


def execute(
    run: Run,
    prepared: Prepared,
    tracking: Tracking,
    parent: str,
    progress: Progress | None,
    judge: Judge | None = None,
    wait: bool = False,
) -> None:
    """Bring one run to its end, from wherever it stands. If another process is at it: leave with a word, or `wait`."""
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.folder / "lock", timeout=-1 if wait else 0):
            tracker = tracking.run(
                run.hash,
                name=f"{run.label}-seed{run.seed}",
                parent=parent,
                comparison=prepared.experiment.name,
                label=run.label,
                params=_parameters(run, prepared.experiment),
                folder=run.folder,
                tags={**_tags(prepared.device), **run.tags},
            )
            try:
                if run.status == "finished":
                    current().told(SKIP)
                elif run.strategy.grouping is not None:
                    from cmtl_ir.grouping.runs import train_groups

                    train_groups(run, prepared, tracking, parent, tracker, progress)
                else:
                    _train(run, prepared, tracker, progress, judge)
            except BaseException as error:
                tracker.finish(_ending(error))
                raise
            tracker.finish("FINISHED")
    except Timeout:
        current().told(SKIP)
        raise TrainingError(
            f"another process is training this run ({run.folder}); run the command again when it is done"
        ) from None


def _ending(error: BaseException) -> str:
    """What the tracking store says of a run that ended so."""
    stopped = isinstance(error, UserError | KeyboardInterrupt) and not isinstance(error, TrainingError)
    return "KILLED" if stopped else "FAILED"


def _train(
    run: Run, prepared: Prepared, tracker: RunTracker, progress: Progress | None, judge: Judge | None = None
) -> None:
    experiment, tasks = prepared.experiment, prepared.tasks[run.seed]
    learner = Learner(experiment, run.strategy, tasks, run.seed, prepared.device, current())
    evaluator = Evaluator(tasks, experiment.evaluation.protocol, experiment.evaluation.tile, prepared.device)
    recorder = Recorder(learner, evaluator, run.folder, run.hash, intervals(experiment), tracker, progress, judge)
    (run.folder / "config.yaml").write_text(
        yaml.dump({"identity": run.identity, "environment": environment(prepared.device)})
    )
    if run.begin is not None:
        run.begin(learner, recorder)
    saved = checkpoint.load_latest(run.folder / "checkpoints", expect={"run": run.hash})
    if saved is not None:
        recorder.load(saved.tree)
    tracker.rewind(learner.step)
    learner.ranks.told(learner.step)
    try:
        with recorder.stopping_cleanly():
            train(learner, recorder)
    except NonFinite as error:
        raise recorder.stopped_at(error, learner.step) from None
    _leave_results(run, learner, recorder, evaluator, tracker)


def intervals(experiment: Experiment) -> dict[str, Any]:
    """How often a run is scored, looked at and saved."""
    return {
        "evaluation": experiment.evaluation.every,
        "conflict": experiment.conflict.every,
        "checkpoint": experiment.checkpoint.every,
        "minutes": experiment.checkpoint.minutes,
        "keep": experiment.checkpoint.keep,
    }


def _leave_results(run: Run, learner: Learner, recorder: Recorder, evaluator: Evaluator, tracker: RunTracker) -> None:
    from cmtl_ir.results import write_curve, write_per_image, write_restored, write_weights

    files = [
        write_weights(run.folder, learner, run.identity),
        write_per_image(run.folder, recorder.scores),
        write_curve(run.folder, recorder.curve),
        *write_restored(run.folder, learner, evaluator),
        run.folder / "config.yaml",
    ]
    if recorder.conflict.rows:
        files.append(recorder.conflict.write(run.folder / "conflict.csv"))
    for file in files:
        tracker.artifact(file, file.parent.relative_to(run.folder).as_posix())
    identity = task_means(recorder.scores, "psnr_input")
    result = {
        "hash": run.hash,
        "seed": run.seed,
        "psnr": task_means(recorder.scores),
        "ssim": task_means(recorder.scores, "ssim"),
        "psnr_input": identity,
        "ssim_input": task_means(recorder.scores, "ssim_input"),
        "continual": summary(recorder.curve, learner.finished),
        "forgetting_db": recorder.forgetting(),
        "val": recorder.curve[-1].get("val"),
        "curve": recorder.curve,
        "steps": learner.step,
        "seconds": recorder.seconds,
        "parameters": sum(parameter.numel() for parameter in learner.model.parameters()),
        "environment": environment(learner.device),
    }
    temporary = run.folder / "result.json.writing"
    temporary.write_text(json.dumps(result, indent=1))
    temporary.replace(run.folder / "result.json")


def _tags(device: torch.device) -> dict[str, str]:
    known = environment(device)
    return {key: str(known[key]) for key in ("version", "commit", "device", "torch") if known[key] is not None}


def _parameters(run: Run, experiment: Experiment) -> dict[str, Any]:
    parts = {family: part and part["name"] for family, part in run.strategy.resolved().items()}
    training = experiment.training
    return {
        **parts,
        "seed": run.seed,
        "backbone": experiment.backbone["name"],
        "steps": training.steps,
        "batch": training.batch,
        "lr": training.optimizer.lr,
        "tasks": ",".join(experiment.tasks),
    }


def narrowed_to(experiment: Experiment, chosen: Sequence[str], seeds: Sequence[int], steps: int | None) -> Experiment:
    """The experiment cut down to some strategies and seeds, or to another budget."""
    from cmtl_ir.registry import suggestion

    for label in chosen:
        if label not in experiment.strategies:
            raise UserError(f"--strategy {label!r}: {suggestion(label, list(experiment.strategies))}")
    update: dict[str, Any] = {}
    if chosen:
        update["strategies"] = {label: experiment.strategies[label] for label in chosen}
    if seeds:
        update["seeds"] = list(seeds)
    if steps is not None:
        update["training"] = experiment.training.model_copy(update={"steps": steps})
    return experiment.model_copy(update=update)
