"""Finished runs as frozen networks, loaded from the store: teachers of single tasks, runs by name, and proxies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import UserError
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.reading import plain_of
from cmtl_ir.runs.begin.weights import start_identity, weights_of_named_runs
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.runs.trained import load_model
from cmtl_ir.store.layout import WEIGHTS
from cmtl_ir.store.lookup import find_run
from cmtl_ir.store.run import hash_of
from cmtl_ir.strategy.making import part_from
from cmtl_ir.tasks.task import Task
from cmtl_ir.training.learner import Learner

MEASURED = 1 << 40
"""First id of the training samples on which proxies are compared. No run draws as many."""
SAMPLES, AT_ONCE = 256, 32


class SingleTaskTeachers:
    """Teachers by task: networks of finished single-task runs of the same experiment, seed and store."""

    def __init__(
        self, experiment: Experiment, seed: int, tasks: Mapping[str, Task], store: Path, device: torch.device
    ) -> None:
        """`store` is the folder whose subfolders are runs."""
        self.experiment, self.seed, self.tasks, self.store, self.device = experiment, seed, tasks, store, device
        self._loaded: dict[str, nn.Module] = {}

    def strategies(self) -> dict[str, Strategy]:
        """Return a label -> the strategy that trains the teacher of each task."""
        return {f"teacher_{task}": self._strategy(task) for task in self.tasks}

    def hash_of(self, task: str) -> str:
        """Return the hash of the run whose network is the teacher of a task."""
        single = self._strategy(task)
        start = start_identity(self.experiment, single, self.seed, self.store.parent)
        runs = weights_of_named_runs(single, self.store.parent)
        return hash_of(identity_of(self.experiment, single, self.seed, self.tasks, start, runs))

    def __call__(self, task: str) -> nn.Module:
        """Return the network, frozen and in eval mode. Raise UserError, with the training command, if there is none."""
        if task not in self._loaded:
            self.refuse_missing(task)
            model, _ = load_model(self.store / self.hash_of(task), self.device)
            self._loaded[task] = model.requires_grad_(False)
        return self._loaded[task]

    def refuse_missing(self, task: str, coming: Collection[str] = ()) -> None:
        """Raise UserError, with the training command, if the run is neither finished nor one of the hashes `coming`."""
        run = self.hash_of(task)
        if run not in coming and not (self.store / run / WEIGHTS).is_file():
            strategy = f"strategies.single_{task}={{curriculum: {{name: single, task: {task}}}}}"
            raise UserError(
                f"the teacher of {task} is a finished single-task run with seed {self.seed}, which {self.store} "
                f"does not have: run this experiment with `--set '{strategy}' --strategy single_{task}` first"
            )

    def _strategy(self, task: str) -> Strategy:
        """Return the strategy of the experiment that trains the task alone.

        If there is none, return the one that the command of `refuse_missing` adds.
        """
        for strategy in self.experiment.strategies.values():
            curriculum: Any = strategy.curriculum
            if curriculum.called == "single" and curriculum.task == task:
                return strategy
        single = part_from("curriculum", {"name": "single", "task": task}, "curriculum", [])
        return plain_of(self.experiment).model_copy(update={"curriculum": single})


class FinishedRuns:
    """Networks of finished runs by name."""

    def __init__(self, out: Path, device: torch.device) -> None:
        """`out` is the folder in which the store is."""
        self.out, self.device = out, device

    def __call__(self, name: str) -> nn.Module:
        """Return the network, frozen and in eval mode. Raise UserError, with a list of the runs, if there is none."""
        model, _ = load_model(find_run(name, self.out), self.device)
        return model.requires_grad_(False)


@torch.no_grad()
def proxy_losses(learner: Learner, networks: Callable[[str], nn.Module], runs: Sequence[str]) -> Tensor:
    """Return mean base objectives [n, K] of finished runs on training samples of each task, float64 on the CPU."""
    losses = torch.empty(len(runs), len(learner.tasks), dtype=torch.float64)
    for row, run in enumerate(runs):
        network = networks(run)
        for column, task in enumerate(learner.tasks):
            batches = [learner.batch(task, ids) for ids in (MEASURED + torch.arange(SAMPLES)).split(AT_ONCE)]
            found = [learner.sample_losses(learner.restore(batch, network), batch) for batch in batches]
            losses[row, column] = torch.cat(found).double().mean().cpu()
    return losses
