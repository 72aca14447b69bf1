"""The suites of a trained run or of an authors' checkpoint: what answers, and against what."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.backbones.building import pick_device
from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import write_table
from cmtl_ir.base.symmetries import mean_of_views
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.inference.published import Published
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.metric import smallest_side
from cmtl_ir.measures.tiling import restore_tiled
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.runs.trained import load_model, trained_tasks
from cmtl_ir.store.folder import has_config, is_grouped, read_identity
from cmtl_ir.store.layout import SUITES as SUITES_FILE
from cmtl_ir.store.lookup import find_run, references_of
from cmtl_ir.suites.catalogue import lines_of, suite_name
from cmtl_ir.suites.line import Line
from cmtl_ir.suites.scoring import Answer, score
from cmtl_ir.tasks.config import TaskConfig

NONE, ENSEMBLE, SINGLE = "none", "self_ensemble", "single"
"""Answers that each table has: one plain pass, eight passes, and the single-task run of the line's task."""
log = logging.getLogger("cmtl_ir")
Plain = Callable[[Tensor, str | None], Tensor]
"""(degraded [1, 3, H, W], trained task of the image or `None`) -> restored [1, 3, H, W]."""


@dataclass(frozen=True)
class Network:
    """A network with the tasks that it numbers, and with those that it was trained on."""

    plain: Plain
    known: Sequence[str]
    trained: Sequence[str]
    singles: Mapping[str, Plain]
    """Task -> the single-task run of the same comparison and seed."""


def evaluate_suites(
    run: str | Path | Published,
    experiment: Experiment,
    suites: Sequence[str],
    *,
    out: str | Path = "runs",
    device: str = "auto",
    metrics: Sequence[str] = (),
    task: str | None = None,
    ranges: Experiment | None = None,
    say: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Score a run or a checkpoint on suites, by name or file. Return one row per line, image and answer.

    `task` is the trained task whose number is given for lines that contain none. `None`: the first one. `ranges` is
    the experiment as it was trained, which says what lies inside the training range. `None`: `experiment`. `say` is
    called with lines for the user; `None` logs them. Raises UserError before anything is scored for an unknown suite or
    task, and for a suite that has nothing to test.
    """
    chosen = pick_device(device)
    names = [suite_name(one) for one in suites]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"two suites have the name {', '.join(sorted(twice))}")
    network = _network(run, experiment, Path(out), chosen, experiment.evaluation.tile, say or log.info)
    if task is not None and task not in network.known:
        raise UserError(f"--task {task!r}: this run knows {', '.join(network.known)}")
    trained_with = (ranges or experiment).tasks
    trained = {name: trained_with[name] for name in network.trained if name in trained_with}
    others = {name: one for name, one in experiment.tasks.items() if name not in trained}
    lines = [line for one in suites for line in _with_images(lines_of(one, trained, others), experiment.tasks)]
    asked = experiment.evaluation
    measured = list(dict.fromkeys([*asked.metrics, *metrics]))
    evaluator = Evaluator({}, asked.protocol, asked.tile, chosen, metrics=measured, known=network.known)
    seed = _seed(run, experiment, out)
    smallest = smallest_side(asked.protocol, measured)
    return score(lines, answers_of(network, task), evaluator, experiment.data, seed, smallest)


def answers_of(network: Network, task: str | None = None) -> dict[str, Answer]:
    """Return the answers that each table has. `task` is given for lines that contain no trained task."""

    def plain(degraded: Tensor, line: Line) -> Tensor:
        return network.plain(degraded, line.given or task)

    def ensemble(degraded: Tensor, line: Line) -> Tensor:
        return mean_of_views(lambda view: plain(view, line), degraded)

    def single(degraded: Tensor, line: Line) -> Tensor | None:
        own = network.singles.get(line.given or "")
        return None if own is None else own(degraded, line.given)

    return {NONE: plain, ENSEMBLE: ensemble, **({SINGLE: single} if network.singles else {})}


def keep(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows of suites into the folder of a run, in place of earlier rows of the same suites."""
    fresh = {row["suite"] for row in rows}
    kept = [row for row in kept_rows(folder) if row["suite"] not in fresh]
    together = [*kept, *rows]
    columns = dict.fromkeys(column for row in together for column in row)
    return write_table(folder / SUITES_FILE, list(columns), together)


def kept_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of suites in the folder of a run, as texts. Empty if there are none."""
    file = folder / SUITES_FILE
    if not file.is_file():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def leave_suites(comparison: Comparison, out: Path, device: str) -> list[Path]:
    """Score finished runs on `evaluation.suites`, except on suites that they were scored on before.

    Return the files that were written.
    """
    experiment, written = comparison.experiment, []
    for folder in [run.folder for run in comparison.runs if run.status == "finished"]:
        known = {row["suite"] for row in kept_rows(folder)}
        missing = [one for one in experiment.evaluation.suites if suite_name(one) not in known]
        if missing:
            written.append(keep(folder, evaluate_suites(folder, experiment, missing, out=out, device=device)))
    return written


def _network(
    run: str | Path | Published, experiment: Experiment, out: Path, device: torch.device, tile: int,
    say: Callable[[str], None],
) -> Network:  # fmt: skip
    if isinstance(run, Published):
        known = list(experiment.tasks)
        return Network(_by_number(run.model(device, say), known, device, tile), known, known, {})
    folder = find_run(run, out)
    identity = read_identity(folder) if has_config(folder) else {}
    singles = {
        task: _by_number(*load_model(reference, device), device, tile)
        for task, reference in references_of(folder, out).items()
    }
    if is_grouped(folder):
        grouped = GroupedModel(folder, device)
        return Network(_routed(grouped, tile), grouped.tasks, grouped.tasks, singles)
    model, known = load_model(folder, device)
    return Network(_by_number(model, known, device, tile), known, trained_tasks(identity, known), singles)


def _by_number(model: torch.nn.Module, known: Sequence[str], device: torch.device, tile: int) -> Plain:
    def plain(degraded: Tensor, task: str | None) -> Tensor:
        number = list(known).index(task) if task is not None else 0
        numbers = torch.full((1,), number, device=device)
        return restore_tiled(model, degraded.to(device, memory_format=torch.channels_last), numbers, tile)

    return plain


def _routed(grouped: GroupedModel, tile: int) -> Plain:
    """Return the answers of a grouped run: routed by its features, or under routing: oracle by the task given."""

    def plain(degraded: Tensor, task: str | None) -> Tensor:
        routing = grouped.find(degraded) if grouped.blind else grouped.told(task or grouped.tasks[0])
        return grouped.restored(degraded, routing, tile)

    return plain


def _with_images(lines: Sequence[Line], tasks: Mapping[str, TaskConfig]) -> list[Line]:
    """Return lines whose trained tasks have the test images that the experiment names, which may be overridden."""
    return [
        replace(
            line, config=line.config.model_copy(update={"test": tasks[line.task].test, "clean": tasks[line.task].clean})
        )
        if line.task in tasks and line.given == line.task
        else line
        for line in lines
    ]


def _seed(run: str | Path | Published, experiment: Experiment, out: str | Path) -> int:
    """Return the seed that chooses rotating test images: that of the run."""
    if isinstance(run, Published):
        return experiment.seeds[0]
    folder = find_run(run, out)
    return int(read_identity(folder).get("seed", 0)) if has_config(folder) else experiment.seeds[0]
