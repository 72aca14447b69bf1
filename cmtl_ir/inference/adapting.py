"""The use of trained networks with adaptation at test time, for `restore --adapt` and `evaluate --adapt`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.adaptation.naming import adapter_from
from cmtl_ir.adaptation.origin import Origin
from cmtl_ir.adaptation.rounds import Given, Session, keyed_order
from cmtl_ir.adaptation.subject import Grouped, OneNetwork, Subject
from cmtl_ir.base.errors import UserError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import load
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.inference.published import Published
from cmtl_ir.inference.targets import Job
from cmtl_ir.runs.trained import load_model
from cmtl_ir.store.folder import has_config, is_grouped, read_identity
from cmtl_ir.store.lookup import experiment_of
from cmtl_ir.strategy.adaptation import Adapter
from cmtl_ir.strategy.making import described

Say = Callable[[str], None]


def subject_of(
    used: Path | Published, device: torch.device, tile: int, out: Path, say: Say, scored: Experiment | None = None
) -> Subject:
    """Return the network of a run or a checkpoint, as adapters see it.

    `scored` is the experiment that stands in for that of a run which no comparison lists, or of a checkpoint; `None`:
    there is none.
    """
    if isinstance(used, Published):
        names = [] if scored is None else list(scored.tasks)
        return OneNetwork(used.model(device, say), names, Origin(lambda: scored, (), 0, device, out), tile, device)
    grouped = GroupedModel(used, device) if is_grouped(used) else None
    model, known = (None, grouped.tasks) if grouped is not None else load_model(used, device)
    origin = Origin(lambda: _experiment(used, out, scored), known, read_seed(used), device, out)
    if grouped is not None:
        return Grouped(grouped, origin, tile, device, told=scored is None)
    assert model is not None
    return OneNetwork(model, known, origin, tile, device)


def read_seed(used: Path | Published, otherwise: int = 0) -> int:
    """Return the seed of a run; `otherwise` for a checkpoint, or a run that names none."""
    if isinstance(used, Published) or not has_config(used):
        return otherwise
    return int(read_identity(used).get("seed", otherwise))


def _experiment(run: Path, out: Path, scored: Experiment | None) -> Experiment | None:
    try:
        return load(experiment_of(run, out))
    except UserError:
        if scored is None:
            raise
        return scored


@dataclass(frozen=True)
class Adapting:
    """The adapter of `restore --adapt`."""

    adapter: Adapter

    @classmethod
    def of(cls, text: str) -> Adapting:
        """Return that of NAME[:field=value,...]. Raises UserError with every mistake."""
        return cls(adapter_from(text))

    def sorted_jobs(self, jobs: list[Job], waiting: list[Job], seed: int) -> list[Job]:
        """Return the jobs to do: those that wait, or all in a keyed order where answers depend on earlier images."""
        if self.adapter.reads == "image":
            return waiting
        return [jobs[place] for place in keyed_order(len(jobs), seed, 0)]

    @property
    def rehearses(self) -> bool:
        """Whether every image is answered once before the answers count."""
        return self.adapter.reads == "folder"

    def described(self) -> dict[str, Any]:
        """Return name and fields as plain data."""
        return {"adapt": described(self.adapter)}

    def answer(
        self, used: Path | Published, device: torch.device, task: str | None, tile: int, out: Path, say: Say
    ) -> Callable[[Tensor, Path], Tensor]:
        """Return what restores an image [1, 3, H, W] of a file, as a task of the run; `None`: of no given task."""
        subject = subject_of(used, device, tile, out, say)
        if isinstance(subject, OneNetwork):
            task = _known_task(subject, isinstance(used, Published), task)
        session = Session(self.adapter, subject, say)
        return lambda image, file: session.answer(Given(file.name, image, task)).restored


def _known_task(subject: OneNetwork, published: bool, task: str | None) -> str | None:
    """Return the name of the task; that of a checkpoint is a number, and becomes the network's default."""
    if published and task is not None:
        if not task.isdecimal():
            raise UserError(f"--task {task!r}: a checkpoint names no tasks; give the number of its prompt, from 0")
        subject.first = int(task)
        return None
    if task is not None and task not in subject.known:
        raise UserError(f"--task {task!r}: this run knows {', '.join(subject.known)}")
    return task
