"""What is to be run, before anything is trained: runs by their hashes, their data found, their folders claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cmtl_ir.backbones.building import pick_device
from cmtl_ir.base.errors import ConfigError, UserError, suggestion
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.store.layout import run_folder
from cmtl_ir.store.run import Run, hash_of
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from cmtl_ir.tracking.store import Tracking


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


Ahead = Callable[[Sequence[tuple[Run, Prepared]]], None]
"""Brings several runs to their end at once, as `workers.several` does."""


def prepare(experiment: Experiment, out: Path, device: str = "auto") -> Prepared:
    """Find the data and plan the runs; every mistake that needs no training to be found is found here."""
    chosen = pick_device(device)
    tasks = {seed: build_tasks(experiment.tasks, experiment.data, seed, chosen) for seed in experiment.seeds}
    planned = []
    for label, strategy in experiment.strategies.items():
        if strategy.grouping is not None:
            _check_grouping(label, strategy, tasks[experiment.seeds[0]])
        for seed in experiment.seeds:
            identity = identity_of(experiment, strategy, seed, tasks[seed])
            planned.append(Run(label, seed, strategy, identity, run_folder(out, hash_of(identity))))
    return Prepared(experiment, tasks, planned, out, chosen)


def _check_grouping(label: str, strategy: Strategy, tasks: Mapping[str, Task]) -> None:
    """Raise UserError for what can be known to be wrong before anything is trained."""
    grouping = strategy.grouping
    assert grouping is not None
    try:
        grouping.check(list(tasks))
    except UserError as error:
        raise ConfigError(f"strategies.{label}.{error}") from None
    missing = [name for name, task in tasks.items() if task.splits.val is None]
    if grouping.needs_validation and missing:
        raise ConfigError(
            f"strategies.{label}.grouping: {grouping.called} chooses on validation images, which {', '.join(missing)} "
            "do(es) not have: set data.val to a share of the training images (--set data.val=0.2) or to a folder"
        )


def narrowed_to(experiment: Experiment, chosen: Sequence[str], seeds: Sequence[int], steps: int | None) -> Experiment:
    """The experiment cut down to some strategies and seeds, or to another budget."""
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
