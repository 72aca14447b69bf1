"""Record that `review` keeps of a running stage: ids and scores of its last samples.

It waits for the GPU at most once per `PIECES` batches.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Learner

PIECES = 64  # batches collected before they are concatenated
SAMPLES_AT_ONCE = 64  # per forward pass


def fresh(steps: int) -> dict[str, Any]:
    """Return the empty record of a stage of `steps` steps."""
    return {"steps": steps, "drawn": 0, "updates": 0, "mean": 0.0, "square": 0.0, "ids": [], "values": []}


def zscores(lesson: dict[str, Any], losses: Tensor, warmup: float, smoothing: float) -> Tensor:
    """Return the scores [B], (l - mean) / std under the running moments before this batch, and update the moments.

    During the first `warmup` batches the scores are -inf and the moments stay unset.
    """
    lesson["updates"] += 1
    if lesson["updates"] <= warmup:
        return torch.full_like(losses, -math.inf)
    first = not isinstance(lesson["mean"], Tensor)
    moments = {"mean": losses.mean(), "square": losses.square().mean()}
    old = moments if first else {key: lesson[key].to(losses.device) for key in moments}
    std = (old["square"] - old["mean"].square()).clamp(min=1e-24).sqrt()
    lesson.update({key: smoothing * old[key] + (1.0 - smoothing) * moments[key] for key in moments})
    return (losses - old["mean"]) / std


def note(lesson: dict[str, Any], ids: Tensor, values: Tensor, fraction: float) -> None:
    """Add ids and values [B]. Samples no longer within the last `fraction` are dropped every `PIECES` batches."""
    lesson["ids"].append(ids)
    lesson["values"].append(values)
    lesson["drawn"] += len(ids)
    if len(lesson["ids"]) >= PIECES:
        joined = tail(lesson, fraction)
        lesson["ids"], lesson["values"] = [joined[0]], [joined[1]]


def tail(lesson: dict[str, Any], fraction: float) -> tuple[Tensor, Tensor]:
    """Return (ids, values) of the last `fraction` of all samples drawn so far."""
    count = math.ceil(fraction * lesson["drawn"])
    last = lesson["values"][-1].device
    ids = torch.cat([piece.cpu() for piece in lesson["ids"]])
    values = torch.cat([piece.to(last) for piece in lesson["values"]])
    return ids[-count:].clone(), values[-count:].clone()


@torch.no_grad()
def losses_now(learner: Learner, task: str, ids: Tensor) -> Tensor:
    """Return the losses [B], float64, of samples under the current weights."""
    found = []
    for some in ids.split(SAMPLES_AT_ONCE):
        batch = learner.batch(task, some)
        found.append(learner.sample_losses(learner.restore(batch), batch).double())
    return torch.cat(found)
