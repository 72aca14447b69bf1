"""What adapters may know of the training of a network: its tasks, their formulas, degraded images, and its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import UserError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs.trained import load_model
from cmtl_ir.store.lookup import find_run
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.strategy.making import objective_of
from cmtl_ir.strategy.objective import Objective
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task


class Origin:
    """The experiment that a network was trained in. It is read, and its images are opened, when they are first used."""

    def __init__(
        self,
        find: Callable[[], Experiment | None],
        tasks: Sequence[str],
        seed: int,
        device: torch.device,
        out: Path = Path("runs"),
    ) -> None:
        """`find` returns the experiment, or `None` for a network of unknown training; it may raise UserError.

        `out` is the folder in which other runs are looked up.
        """
        self._find, self.tasks, self.seed, self.device, self.out = find, tuple(tasks), seed, device, out
        self._finished: dict[str, nn.Module] = {}

    @cached_property
    def experiment(self) -> Experiment | None:
        """The experiment; `None` if it is not known."""
        return self._find()

    @cached_property
    def degradations(self) -> Mapping[str, Degradation | None]:
        """Task of the network -> its formula; `None` for a task whose degraded images are given."""
        if self.experiment is None:
            return {}
        return {name: task.degradation for name, task in self.experiment.tasks.items() if name in self.tasks}

    @cached_property
    def objective(self) -> Objective:
        """The base objective; l1 where it is not known, or cannot compare two images alone."""
        found = objective_of("l1" if self.experiment is None else self.experiment.training.loss)
        return objective_of("l1") if "pair" in found.needs else found

    @cached_property
    def _images(self) -> Mapping[str, Task]:
        if self.experiment is None:
            raise UserError("training images are those of a finished run; an authors' checkpoint has none")
        configs = {name: task for name, task in self.experiment.tasks.items() if name in self.tasks}
        return build_tasks(configs, self.experiment.data, self.seed, self.device)

    def degraded(self, task: str, ids: Sequence[int]) -> Tensor:
        """Return degraded training images [B, 3, h, w]. Raise UserError where they are not known or not there."""
        if task not in self._images:
            raise UserError(f"no task {task!r}: the network was trained on {', '.join(self._images)}")
        batch = self._images[task].batch(torch.tensor(list(ids), dtype=torch.int64))
        return batch.degraded.to(self.device, memory_format=torch.channels_last)

    def finished(self, run: str) -> nn.Module:
        """Return the network of a finished run of one task, frozen. Raise UserError if there is none."""
        if run not in self._finished:
            model, tasks = load_model(find_run(run, self.out), self.device)
            if len(tasks) != 1:
                raise UserError(f"{run} was trained on {', '.join(tasks)}; a prior is a run of one task")
            self._finished[run] = model.requires_grad_(False)
        return self._finished[run]
