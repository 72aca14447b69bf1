"""One run to its end: from its checkpoint, or from the start; scored, saved and tracked."""

from __future__ import annotations

from typing import Any

import torch
from filelock import Timeout

from cmtl_ir.base.environment import environment
from cmtl_ir.base.errors import TrainingError, UserError
from cmtl_ir.base.ranks import SKIP, current
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.measures.continual import summary
from cmtl_ir.measures.evaluation import Evaluator, task_means
from cmtl_ir.runs.plan import Ahead, Prepared
from cmtl_ir.runs.recorder import Judge, Progress, Recorder
from cmtl_ir.store.folder import latest_checkpoint, lock_of, write_config, write_result
from cmtl_ir.store.layout import CONFIG, CONFLICT
from cmtl_ir.store.run import Run
from cmtl_ir.tracking.store import RunTracker, Tracking
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import NonFinite


def execute(
    run: Run,
    prepared: Prepared,
    tracking: Tracking,
    parent: str,
    progress: Progress | None,
    judge: Judge | None = None,
    wait: bool = False,
    ahead: Ahead | None = None,
) -> None:
    """Bring one run to its end, from wherever it stands. If another process is at it: leave with a word, or `wait`.

    `ahead`: trains the groups of a grouped run side by side.
    """
    try:
        with lock_of(run.folder, wait):
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
                    from cmtl_ir.grouping.execution import train_groups

                    train_groups(run, prepared, tracking, parent, tracker, progress, execute, ahead)
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
    write_config(run.folder, run.identity, environment(prepared.device))
    if run.begin is not None:
        run.begin(learner, recorder)
    saved = latest_checkpoint(run.folder)
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
    from cmtl_ir.runs.results import write_curve, write_per_image, write_restored, write_weights

    files = [
        write_weights(run.folder, learner, run.identity),
        write_per_image(run.folder, recorder.scores),
        write_curve(run.folder, recorder.curve),
        *write_restored(run.folder, learner, evaluator),
        run.folder / CONFIG,
    ]
    if recorder.conflict.rows:
        files.append(recorder.conflict.write(run.folder / CONFLICT))
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
        "val": recorder.curve[-1].get("val"),
        "curve": recorder.curve,
        "steps": learner.step,
        "seconds": recorder.seconds,
        "step_seconds": recorder.meter.seconds,
        "peak_memory_bytes": recorder.meter.peak,
        "parameters": sum(parameter.numel() for parameter in learner.model.parameters()),
        "environment": environment(learner.device),
    }
    tracker.artifact(write_result(run.folder, result))


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
