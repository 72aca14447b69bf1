"""Using a trained run, or an authors' checkpoint: restore images, score them again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmtl_ir.backbones.building import pick_device
from cmtl_ir.base.errors import UserError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.grouping.scores import grouped_scores, routing_report
from cmtl_ir.inference.published import Published
from cmtl_ir.measures.evaluation import Evaluator, restore_tiled
from cmtl_ir.runs.trained import load_model
from cmtl_ir.store.folder import is_grouped
from cmtl_ir.store.lookup import find_run
from cmtl_ir.tasks.images.decode import decode
from cmtl_ir.tasks.suite import build_tasks

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

log = logging.getLogger("cmtl_ir")


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
    told: Callable[[int, int, Path], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Restore an image or a folder of images with a trained run or a checkpoint; returns the files written.

    A grouped run sends each image to the model of the nearest group, which `say` is told, unless `task` is given.
    `told` is called with (number, total, file). Never overwrites unless asked. Raises UserError.
    """
    chosen = pick_device(device)
    used = run if isinstance(run, Published) else find_run(run, out)
    pairs = list(_pairs(Path(source), Path(target)))
    standing = [there for _, there in pairs if there.exists()]
    if standing and not overwrite:
        raise UserError(f"{standing[0]} exists ({len(standing)} of {len(pairs)} files); say --overwrite to replace it")
    answer = _restorer(used, chosen, task, tile, say)
    for number, (file, there) in enumerate(pairs, 1):
        there.parent.mkdir(parents=True, exist_ok=True)
        _restore_file(answer, file, there, chosen)
        if told is not None:
            told(number, len(pairs), there)
    return [there for _, there in pairs]


def _restorer(
    run: Path | Published, device: torch.device, task: str | None, tile: int, say: Callable[[str], None] | None
) -> Callable[[Tensor, Path], Tensor]:
    """(degraded [1, 3, H, W], its file) -> restored, by a run's model or by that of the group it is sent to."""
    if isinstance(run, Published):
        if task is not None and not task.isdecimal():
            raise UserError(f"--task {task!r}: a checkpoint names no tasks; give the number of its prompt, from 0")
        return _by_model(run.model(device), int(task or 0), device, tile)
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


def _by_model(model: nn.Module, task: int, device: torch.device, tile: int) -> Callable[[Tensor, Path], Tensor]:
    numbers = torch.tensor([task], device=device)
    return lambda image, file: restore_tiled(model, image, numbers, tile)


def _restore_file(answer: Callable[[Tensor, Path], Tensor], file: Path, there: Path, device: torch.device) -> None:
    from cmtl_ir.tasks.images.encode import write_image

    image = torch.from_numpy(np.array(decode(file))).permute(2, 0, 1)[None].to(device).float() / 255.0
    write_image(there, answer(image, file))


def _pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    if source.is_file():
        yield source, target / f"{source.stem}.png" if target.is_dir() or not target.suffix else target
        return
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{source}: {'no image in this folder' if source.is_dir() else 'no such file or folder'}")
    for file in files:
        yield file, (target / file.relative_to(source)).with_suffix(".png")


def evaluate(
    run: str | Path | Published,
    experiment: Experiment,
    *,
    out: str | Path = "runs",
    device: str = "auto",
    metrics: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Score a run or a checkpoint on an experiment's test sets: one row an image, as `Evaluator.scores` gives them.

    `metrics`: names of further metrics than `evaluation.metrics` (lpips, `file.py:Class`), one column each.
    """
    chosen = pick_device(device)
    if isinstance(run, Published):
        model = run.model(chosen)
        return _evaluator(experiment, list(experiment.tasks), chosen, metrics).scores(model)
    folder = find_run(run, out)
    if is_grouped(folder):
        grouped = GroupedModel(folder, chosen)
        return grouped_scores(grouped, _evaluator(experiment, grouped.tasks, chosen, metrics))
    model, known = load_model(folder, chosen)
    return _evaluator(experiment, known, chosen, metrics).scores(model)


def _evaluator(experiment: Experiment, known: Sequence[str], device: torch.device, metrics: Sequence[str]) -> Evaluator:
    """Of the experiment's tasks, in the order in which the model knows them."""
    if missing := sorted(set(experiment.tasks) - set(known)):
        raise UserError(f"the run was not trained on {', '.join(missing)}; it knows {', '.join(known)}")
    tasks = build_tasks(experiment.tasks, experiment.data, experiment.seeds[0], device)
    ordered = {name: tasks[name] for name in known if name in tasks}
    asked = experiment.evaluation
    named = list(dict.fromkeys([*asked.metrics, *metrics]))
    return Evaluator(ordered, asked.protocol, asked.tile, device, metrics=named)


def routing(
    run: str | Path | Published, rows: list[dict[str, Any]], *, out: str | Path = "runs"
) -> dict[str, Any] | None:
    """What `evaluate` saw of a grouped run's routing: confusion matrix and accuracy; None where nothing was routed."""
    folder = None if isinstance(run, Published) else find_run(run, out)
    grouped = GroupedModel(folder, torch.device("cpu")) if folder is not None and is_grouped(folder) else None
    return routing_report(rows, grouped) if grouped is not None and grouped.blind else None
