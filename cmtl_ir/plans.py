"""What is to be run, before anything is trained: runs by their hashes, their data found, their folders claimed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock

from cmtl_ir import checkpoint, yaml
from cmtl_ir.config import Experiment, Strategy
from cmtl_ir.errors import ConfigError, UserError
from cmtl_ir.identity import hash_of, identity_of
from cmtl_ir.learner import Learner, pick_device
from cmtl_ir.recorder import Recorder
from cmtl_ir.registry import suggestion
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from cmtl_ir.tracking import Tracking

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
            planned.append(Run(label, seed, strategy, identity, out / "store" / hash_of(identity)))
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


def claim_folder(experiment: Experiment, out: Path, fresh: bool = False) -> Path:
    """The comparison's folder, with the resolved experiment in it. Refuses one that belongs to another experiment."""
    folder = out / experiment.name
    file = folder / "experiment.yaml"
    text = yaml.dump(experiment.resolved())
    if file.is_file() and not fresh:
        before, now = _what_counts(yaml.read(file)), _what_counts(yaml.parse(text))
        other = [key for key in before if before[key] != now[key]]
        if other:
            raise UserError(
                f"{folder} holds another experiment of the name {experiment.name!r}: it differs in {', '.join(other)}. "
                "Give this one its own name (--set name=NEW), another folder (--out FOLDER), or --fresh to replace "
                "the tables (finished runs stay in the store)"
            )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".experiment.yaml.{os.getpid()}"
    temporary.write_text(text)
    temporary.replace(file)  # whole, for others of this comparison read it now
    return folder


def _what_counts(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What two experiments that share a table must agree in; the memory that data may take changes no score."""
    data = {key: value for key, value in resolved["data"].items() if key != "gpu_gigabytes"}
    return {key: resolved[key] for key in ("tasks", "backbone", "training", "evaluation")} | {"data": data}


def list_runs(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a comparison's runs.json, which others may be adding to: label and seed name a row."""
    file = folder / "runs.json"
    with FileLock(folder / "runs.lock", timeout=60):
        before = json.loads(file.read_text()) if file.is_file() else []
        by_name = {(row["label"], row["seed"]): row for row in [*before, *rows]}
        temporary = folder / ".runs.json.writing"
        temporary.write_text(json.dumps(list(by_name.values()), indent=1))
        temporary.replace(file)


def set_aside(folder: Path) -> None:
    """Rename an earlier run's folder: nothing is deleted."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"))
