"""Samples of tasks as a data set of Avalanche."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner

from ._library import library


class Samples(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Training samples of tasks by name and number: (degraded, clean), each [3, P, P]."""

    def __init__(self, batch: Callable[[str, Tensor], Batch], samples: list[tuple[str, int]]) -> None:
        self.batch, self.samples = batch, samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        task, number = self.samples[place]
        batch = self.batch(task, torch.tensor([number]))
        return batch.degraded[0], batch.clean[0]


def labelled(samples: Any, labels: int | list[int], names: str | list[str]) -> Any:
    """Return an AvalancheDataset whose samples carry their name and, last in a mini-batch, their task's label."""
    utils = library("avalanche.benchmarks.utils")
    attribute = library("avalanche.benchmarks.utils.data_attribute").DataAttribute
    labels = [labels] * len(samples) if isinstance(labels, int) else labels
    names = [names] * len(samples) if isinstance(names, str) else names
    kept = [attribute(labels, "targets_task_labels", use_in_getitem=True), attribute(names, "samples")]
    return utils.AvalancheDataset([samples], data_attributes=kept)


def dataset_of(learner: Learner, samples: list[tuple[str, int]]) -> Any:
    """Return the data set that a plugin is given at the end of a stage."""
    labels = [learner.tasks.index(task) for task, _ in samples]
    return labelled(Samples(learner.batch, samples), labels, [f"{task} {number}" for task, number in samples])


def sample_named(name: str) -> tuple[str, int]:
    """Return the task and the number in a sample's name."""
    task, _, number = name.partition(" ")
    return task, int(number)
