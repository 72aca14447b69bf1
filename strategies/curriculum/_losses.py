"""Losses of degraded images themselves, and samples that are always the same. Shapes: B samples."""

from __future__ import annotations

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Learner
from cmtl_ir.strategy.output import Output

SAMPLES_AT_ONCE = 64
UNDRAWN = 1 << 40
"""First id of training samples that no run draws, on which networks are compared during training."""


@torch.no_grad()
def identity_losses(learner: Learner, task: str, ids: Tensor) -> Tensor:
    """Return the base objective [B], float64, of the degraded images of samples as they are."""
    found = []
    for some in ids.split(SAMPLES_AT_ONCE):
        batch = learner.batch(task, some)
        found.append(learner.sample_losses(Output.of(batch.degraded), batch).double().cpu())
    return torch.cat(found)
