"""What a mean teacher answers for unlabelled images, and the bank of its best answers. Shapes: B samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.base.symmetries import SYMMETRIES, turned, turned_back
from cmtl_ir.strategy.data import UNLABELLED, Batch, Learner


def ramp(step: int, steps: float, weight: float) -> float:
    """Return weight * exp(-5 (1 - t / T)^2) with t / T at most 1."""
    progress = min(step / steps, 1.0) if steps > 0 else 1.0
    return weight * math.exp(-5.0 * (1.0 - progress) ** 2)


def keep_of(step: int, decay: float) -> float:
    """Return the share of its weights that the teacher keeps in step `step` (from 0): at first it is a running mean."""
    return min(1.0 - 1.0 / (step + 1), decay)


def enters(teacher: Tensor, student: Tensor, kept: Tensor) -> Tensor:
    """Return [B] whether the teacher's answers replace those of the bank. Scores [B]: smaller is better."""
    return (teacher < student) & (teacher < kept)


def symmetries(images: Tensor) -> Iterator[tuple[Tensor, Any]]:
    """Yield the eight symmetric images of square images [B, 3, P, P], each with the function that undoes it."""
    for number in range(SYMMETRIES):
        yield turned(images, number), partial(turned_back, number=number)


@torch.no_grad()
def answers(learner: Learner, network: nn.Module, batch: Batch, judged: bool) -> tuple[Tensor, Tensor]:
    """Return the restored images [B, 3, P, P] and scores [B]: the mean distance of eight answers from their mean.

    The answers are those for the symmetric images. Scores are 0 if they are not to be judged.
    """
    training = network.training
    network.eval()
    views = [(batch.degraded, _as_it_is)] if not judged else list(symmetries(batch.degraded))
    found = []
    for view, undo in views:
        own = Batch(batch.task, batch.ids, view.contiguous(), batch.clean)
        found.append(undo(learner.restore(own, network).restored.float()))
    network.train(training)
    each = torch.stack(found)
    return found[0], (each - each.mean(0)).abs().mean((0, 2, 3, 4))


def _as_it_is(x: Tensor) -> Tensor:
    return x


def empty_bank(learner: Learner, task: str, count: int) -> dict[str, Tensor]:
    """Return a bank for `count` ids: `images` [count, 3, P, P], and `scores` [count], which are infinite."""
    like = learner.batch(task, torch.zeros(1, dtype=torch.int64), UNLABELLED).degraded
    scores = torch.full((count,), torch.inf, device=like.device)
    return {"images": like.new_zeros(count, *like.shape[1:]), "scores": scores}
