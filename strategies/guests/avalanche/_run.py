"""View of a run for a hosted plugin: a strategy object with a model, a criterion, an experience and a clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner
from cmtl_ir.strategy.output import output_of

from ...shared.weights import device_of, trained
from ..torchjd import keyed_generator
from ._library import library


def strategy_of(learner: Learner, stages: int, batch: int) -> SimpleNamespace:
    """Return the parts of Avalanche's strategy object that the hosted plugins use."""
    whole: Any = learner  # other parts may not ask for a mini-batch of several tasks
    base = library("avalanche.models.dynamic_modules").MultiTaskModule

    class TaskAware(base):  # type: ignore[misc,valid-type]
        """The run's network, which is given the task of each sample."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = learner.model

        def forward(self, degraded: Tensor, task_labels: Tensor) -> Any:
            images = whole.forward(degraded, task_labels).images
            return images[0] if len(images) == 1 else list(images)

    def criterion(restored: Any, clean: Tensor) -> Tensor:
        return learner.sample_losses(
            output_of(learner.model, restored), Batch("", torch.zeros(len(clean)), clean, clean)
        ).mean()

    def clear_gradients() -> None:
        for parameter in trained(learner.model):
            parameter.grad = None

    return SimpleNamespace(
        model=TaskAware(),
        device=device_of(learner),
        train_mb_size=batch,
        clock=SimpleNamespace(train_exp_counter=stages),
        optimizer=SimpleNamespace(zero_grad=clear_gradients),
        _criterion=criterion,
        experience=None,
        loss=None,
    )


@contextmanager
def keyed_generators(key: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of Python and torch, from which plugins draw, and restore them afterwards."""
    before = random.getstate()
    random.seed(key)
    try:
        with keyed_generator(key, device):
            yield
    finally:
        random.setstate(before)
