"""A learner that trains nothing, and a walk through a curriculum's stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, History, Stage
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Curriculum

MIOIR = ("sr", "blur", "noise", "jpeg", "rain", "haze", "dark")


class Still:
    """Seed and images only."""

    def __init__(self, tasks: Sequence[str], seed: int = 0, images: Mapping[str, Tensor] | None = None) -> None:
        self.model: nn.Module = nn.Identity()
        self.tasks, self.seed, self.step = tuple(tasks), seed, 0
        self.images = images or {}
        self.looked: dict[str, list[int]] = {}

    def batch(self, task: str, ids: Tensor) -> Batch:
        self.looked.setdefault(task, []).extend(ids.tolist())
        clean = torch.zeros(len(ids), 3, 4, 4)
        degraded = self.images[task].expand(len(ids), 3, 4, 4) if task in self.images else clean
        return Batch(task, ids, degraded, clean)

    def restore(self, batch: Batch) -> Output:
        return Output.of(batch.degraded)

    def sample_losses(self, output: Output, batch: Batch) -> Tensor:
        return 0.001 * batch.ids.float()


def history(
    tasks: Sequence[str], steps: int, stages: Sequence[Stage] = (), learner: Still | None = None, **sizes: int
) -> History:
    """What a curriculum is asked with."""
    return History(tuple(tasks), steps, tuple(stages), sizes or dict.fromkeys(tasks, 100), learner or Still(tasks))


def walk(
    curriculum: Curriculum,
    tasks: Sequence[str],
    steps: int,
    train: Callable[[Stage], None] = lambda stage: None,
    learner: Still | None = None,
    **sizes: int,
) -> list[Stage]:
    """All stages from first to last; `train` is called with each."""
    curriculum.reset()
    stages: list[Stage] = []
    while (stage := curriculum.next_stage(history(tasks, steps, stages, learner, **sizes))) is not None:
        again = curriculum.next_stage(history(tasks, steps, stages, learner, **sizes))
        assert again == stage, "asking twice must not change the answer"
        train(stage)
        stages.append(stage)
    return stages
