"""The use of a trained run or of an authors' checkpoint: it restores images, or is scored again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.backbones.building import pick_device
from cmtl_ir.backbones.sources import reads_task_number
from cmtl_ir.base.errors import UserError
from cmtl_ir.base.problems import Problem
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.grouping.scores import grouped_scores, routing_report
from cmtl_ir.inference.adapting import Adapting, read_seed
from cmtl_ir.inference.journal import Journal, maker_of, remaining
from cmtl_ir.inference.one_image import SKIP_OR_CONTINUE, ImageFailed, restored, write_restored
from cmtl_ir.inference.published import Published
from cmtl_ir.inference.targets import Job, jobs_of
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.metric import smallest_side
from cmtl_ir.measures.tiling import check_tile, restore_tiled
from cmtl_ir.runs.trained import load_model, trained_tasks
from cmtl_ir.store.folder import has_config, is_grouped, read_identity
from cmtl_ir.store.lookup import find_run
from cmtl_ir.strategy.making import part_from
from cmtl_ir.tasks.suite import build_tasks

log = logging.getLogger("cmtl_ir")

Say = Callable[[str], None]
Answer = Callable[[Tensor, Path], Tensor]
"""(degraded [1, 3, H, W], its file) -> restored [1, 3, H, W] in [0, 1]."""


def restore(
    run: str | Path | Published,
    source: str | Path,
    target: str | Path,
    *,
    out: str | Path = "runs",
    task: str | None = None,
    device: str = "auto",
    tile: int = 1024,
    overwrite: bool = False,
    on_error: str = "stop",
    quality: int = 95,
    adapt: str | None = None,
    told: Callable[[int, int, Path], None] | None = None,
    say: Say | None = None,
) -> list[Path]:
    """Restore an image or a folder of images with a trained run or a checkpoint, and return the restored files.

    A folder is read by the rules of training: hidden files are left out, links are followed. Images of it that were
    restored before from the same source by the same network are not restored again. Of an image that cannot be read or
    restored, `on_error` says whether to stop or to leave it out with a warning. `quality` (1 to 100) is that of JPEG
    and WebP targets. A grouped run sends each image to the model of the nearest group, unless `task` is given.

    `adapt` is an adapter, NAME or NAME:field=value,... as in `consistency:steps=3`; `None` adapts nothing. With one
    that reads a stream or the folder, the images come in a keyed order, and all are restored if any is to be.

    `told` is called with (number, total, file) per image, `say` with lines for the user; `None` logs them. Files that
    exist are never replaced unless `overwrite` is true. Raises UserError naming the file.
    """
    chosen = pick_device(device)
    _check_options(tile, on_error, quality)
    used = run if isinstance(run, Published) else find_run(run, out)
    jobs = jobs_of(Path(source), Path(target), say or log.info)
    adapting = None if adapt is None else Adapting.of(adapt)
    by = maker_of(used, {"task": task, "tile": tile, **({} if adapting is None else adapting.described())})
    journal = Journal(Path(target), by) if Path(source).is_dir() else None
    waiting = _waiting(jobs, journal, overwrite, adapting, used, say or log.info)
    failed: list[Job] = []
    if waiting:
        answer = _answer_of(adapting, used, chosen, task, tile, Path(out), say)
        if adapting is not None and adapting.rehearses:
            _rehearse(answer, waiting, chosen, on_error)
        for number, job in enumerate(waiting, start=1):
            if not _restore_one(answer, job, chosen, quality, journal, on_error):
                failed.append(job)
            if told is not None:
                told(number, len(waiting), job.target)
    _report(failed, jobs, source, say or log.info)
    return [job.target for job in jobs if job not in failed]


def _check_options(tile: int, on_error: str, quality: int) -> None:
    """Raise UserError for options out of their range."""
    check_tile(tile, "--tile")
    if on_error not in ("stop", "skip") or not 1 <= quality <= 100:
        raise UserError(f"--on-error {on_error} --quality {quality}: expected stop or skip, and 1 to 100")


def _waiting(
    jobs: list[Job],
    journal: Journal | None,
    overwrite: bool,
    adapting: Adapting | None,
    used: Path | Published,
    say: Say,
) -> list[Job]:
    """Return what is still to be restored, in the order in which it is; say what was restored before."""
    waiting = remaining(jobs, journal, overwrite)
    if waiting and adapting is not None:
        waiting = adapting.sorted_jobs(jobs, waiting, read_seed(used))
    if len(waiting) < len(jobs):
        say(f"{len(jobs) - len(waiting)} of {len(jobs)} images were restored before: skipped")
    return waiting


def _report(failed: Sequence[Job], jobs: Sequence[Job], source: str | Path, say: Say) -> None:
    """Say how many images were skipped. Raise UserError if all of them were."""
    if len(failed) == len(jobs):
        raise UserError(f"{source}: none of its {len(jobs)} images could be restored; the reasons are above")
    if failed:
        say(f"{len(failed)} of {len(jobs)} images were skipped; the reasons are above")


def _restore_one(
    answer: Answer, job: Job, device: torch.device, quality: int, journal: Journal | None, on_error: str
) -> bool:
    """Restore one image into its file. Return whether that was possible; raise ImageFailed instead if so asked."""
    try:
        write_restored(job, restored(answer, job.source, device), quality, journal)
    except ImageFailed as error:
        if on_error == "stop":
            raise ImageFailed(f"{error}{SKIP_OR_CONTINUE}" if journal is not None else str(error)) from error
        log.warning("skipped: %s", error)
        return False
    return True


def _answer_of(
    adapting: Adapting | None,
    used: Path | Published,
    device: torch.device,
    task: str | None,
    tile: int,
    out: Path,
    say: Say | None,
) -> Answer:
    """Return what restores an image, with or without adaptation."""
    if adapting is None:
        return _restorer(used, device, task, tile, say)
    return adapting.answer(used, device, task, tile, out, say or log.info)


def _rehearse(answer: Answer, jobs: Sequence[Job], device: torch.device, on_error: str) -> None:
    """Answer images and drop the answers. One that fails is skipped here, and reported when it is restored."""
    for job in jobs:
        try:
            restored(answer, job.source, device)
        except ImageFailed:
            if on_error == "stop":
                raise


def _restorer(run: Path | Published, device: torch.device, task: str | None, tile: int, say: Say | None) -> Answer:
    """Return what restores an image: a run's model, or the model of the group that the image is sent to."""
    if isinstance(run, Published):
        if task is not None and not task.isdecimal():
            raise UserError(f"--task {task!r}: a checkpoint names no tasks; give the number of its prompt, from 0")
        return _by_model(run.model(device, say or log.info), int(task or 0), device, tile)
    if not is_grouped(run):
        model, tasks = load_model(run, device)
        if task is not None and task not in tasks:
            raise UserError(f"--task {task!r}: this run knows {', '.join(tasks)}")
        return _by_model(model, tasks.index(task) if task else 0, device, tile)
    grouped = GroupedModel(run, device)

    def answer(image: Tensor, file: Path) -> Tensor:
        routing = grouped.told(task) if task is not None else grouped.find(image)
        if task is None:
            (say or (log.warning if routing.unknown else log.info))(f"{file.name}: {grouped.words(routing)}")
        return grouped.restored(image, routing, tile)

    return answer


def _by_model(model: nn.Module, task: int, device: torch.device, tile: int) -> Answer:
    numbers = torch.tensor([task], device=device)
    return lambda image, file: restore_tiled(model, image, numbers, tile)


def evaluate(
    run: str | Path | Published,
    experiment: Experiment,
    *,
    out: str | Path = "runs",
    device: str = "auto",
    metrics: Sequence[str] = (),
    task: str | None = None,
    say: Say | None = None,
) -> list[dict[str, Any]]:
    """Score a run or a checkpoint on an experiment's test sets. Return one row per image, as `Evaluator.scores` does.

    Tasks that the run was not trained on are scored too; then each row has a column `trained`. A network that reads a
    task number is given that of `task` for tasks that it does not know. `None`: that of its first task.

    `metrics` are names of metrics in addition to `evaluation.metrics` (lpips, `file.py:Class`), with one column each.
    `say` is called with lines for the user; `None` logs them. Raises UserError before anything is scored if a metric,
    the device, the weights or the test images cannot be used.
    """
    chosen = pick_device(device)
    check_metrics(metrics)
    if isinstance(run, Published):
        model = run.model(chosen, say or log.info)
        return evaluator_of(experiment, list(experiment.tasks), chosen, metrics, task=task).scores(model)
    folder = find_run(run, out)
    identity = read_identity(folder) if has_config(folder) else {}
    if is_grouped(folder):
        grouped = GroupedModel(folder, chosen)
        _check_routable(grouped, experiment)
        evaluator = evaluator_of(experiment, grouped.tasks, chosen, metrics, identity.get("seed"), task)
        return _marked(grouped_scores(grouped, evaluator), grouped.tasks)
    model, known = load_model(folder, chosen)
    evaluator = evaluator_of(experiment, known, chosen, metrics, identity.get("seed"), task)
    trained = trained_tasks(identity, known)
    _say_untrained(experiment, trained, known, identity.get("backbone"), task, say or log.info)
    return _marked(evaluator.scores(model), trained)


def _check_routable(grouped: GroupedModel, experiment: Experiment) -> None:
    """Raise UserError for tasks that a grouped run cannot answer because the task must be given."""
    if not grouped.blind and (missing := sorted(set(experiment.tasks) - set(grouped.tasks))):
        ways = " ".join(f"--set tasks.{name}=null" for name in missing)
        raise UserError(
            f"the run was made with routing: oracle and not trained on {', '.join(missing)}; it knows "
            f"{', '.join(grouped.tasks)}; {ways} leaves them out"
        )


def _say_untrained(
    experiment: Experiment, trained: Sequence[str], known: Sequence[str], backbone: Any, task: str | None, say: Say
) -> None:
    """Say which tasks the run was not trained on, and which number a network that reads one is given for them."""
    untrained = [name for name in experiment.tasks if name not in trained]
    if not untrained:
        return
    number = ""
    if (unknown := [name for name in untrained if name not in known]) and backbone and reads_task_number(backbone):
        number = f"; for {', '.join(unknown)} the network is given the number of {task or known[0]} (--task)"
    say(f"not trained on {', '.join(untrained)}{number}")


def _marked(rows: list[dict[str, Any]], trained: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows with a column that says whether the run was trained on their task, if it was not on some."""
    if all(row["task"] in trained for row in rows):
        return rows
    return [{**row, "trained": row["task"] in trained} for row in rows]


def check_metrics(names: Sequence[str]) -> None:
    """Raise UserError for a name that is no metric."""
    problems: list[Problem] = []
    for name in names:
        part_from("metric", name, f"--metric {name}", problems)
    if problems:
        raise UserError("\n".join(map(str, problems)))


def evaluator_of(
    experiment: Experiment, known: Sequence[str], device: torch.device, metrics: Sequence[str], seed: int | None = None,
    task: str | None = None,
) -> Evaluator:  # fmt: skip
    """Return what scores the experiment's tasks, in the order in which the model knows them, then the others.

    `seed` chooses the test images under `data.holdout: rotate`: that of the run, so that it is not scored on images
    that it was trained on. `None`: the first of the experiment. Raise UserError if the model does not know `task`.
    """
    if task is not None and task not in known:
        raise UserError(f"--task {task!r}: this run knows {', '.join(known)}")
    asked = experiment.evaluation
    named = list(dict.fromkeys([*asked.metrics, *metrics]))
    smallest = smallest_side(asked.protocol, named)
    seed = experiment.seeds[0] if seed is None else seed
    tasks = build_tasks(experiment.tasks, experiment.data, seed, device, smallest=smallest)
    ordered = {name: tasks[name] for name in [*known, *tasks] if name in tasks}
    given = 0 if task is None else list(known).index(task)
    return Evaluator(ordered, asked.protocol, asked.tile, device, metrics=named, known=known, given=given)


def routing(
    run: str | Path | Published, rows: list[dict[str, Any]], *, out: str | Path = "runs"
) -> dict[str, Any] | None:
    """Return the confusion matrix and the accuracy of a grouped run's routing in rows that `evaluate` returned.

    `None` if nothing was routed.
    """
    folder = None if isinstance(run, Published) else find_run(run, out)
    grouped = GroupedModel(folder, torch.device("cpu")) if folder is not None and is_grouped(folder) else None
    return routing_report(rows, grouped) if grouped is not None and grouped.blind else None
