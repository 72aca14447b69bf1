"""Ratio of the gradients of an auxiliary objective and of the base objective: w |dA_k| / |g_k| per row k.

It is measured in steps whose row gradients are logged, and takes one more backward pass per row and objective.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from cmtl_ir.gradients.rows import RowGradients
from cmtl_ir.training.auxiliaries import Auxiliaries
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.pieces import part_of
from cmtl_ir.training.samples import Samples

LARGE = 3.0
"""A larger ratio causes a warning, because the auxiliary objective then decides the direction of the update."""
log = logging.getLogger("cmtl_ir")


class AuxRatio:
    """Measures the ratios in the steps of a stage, and warns once per objective."""

    def __init__(self, learner: Learner, auxiliaries: Auxiliaries) -> None:
        self.learner, self.auxiliaries = learner, auxiliaries
        self._warned: set[str] = set()

    def __call__(self, drawn: Samples, gradients: Tensor, rows: Tensor, engine: RowGradients) -> dict[str, float]:
        """Return metric name -> ratio for the rows of a step.

        `gradients` [pieces, P] are those of the sums of all objectives. `rows` [rows, pieces] averages them by row.
        """
        found: dict[str, float] = {}
        for number, row in enumerate(drawn.rows):
            labels = self.auxiliaries.of_row(row)
            if not labels:
                continue
            pulls = {label: self._gradient(drawn, number, label, engine) for label in labels}
            whole = rows[number].to(gradients) @ gradients  # [P]
            base = whole - torch.stack(list(pulls.values())).sum(0)
            for label, pull in pulls.items():
                ratio = float(pull.norm() / base.norm().clamp_min(1e-30))
                found[f"aux_ratio.{label}/{row.name.replace(':', '.')}"] = ratio
                self._warn(label, row.name, ratio)
        return found

    def _gradient(self, drawn: Samples, number: int, label: str, engine: RowGradients) -> Tensor:
        """Return w dA_k [P], the gradient of the mean over the row's samples on all ranks."""
        row, total = drawn.rows[number], torch.zeros_like(engine.update)
        start = sum(stop - first for first, stop in drawn.windows[:number])
        held = len(drawn.batches[number].ids)
        size = self.learner.training.micro_batch or max(held, 1)
        for first in range(0, held, size):
            window = (first, min(first + size, held))
            samples = slice(start + window[0], start + window[1])
            output = self.learner.forward(drawn.degraded[samples], drawn.task_numbers[samples])
            batch = part_of(drawn.batches[number], *window)
            term = self.auxiliaries.term(label, output, row, batch, window).sum() / drawn.counts[number]
            parts = torch.autograd.grad(term, engine.parameters, allow_unused=True, materialize_grads=True)
            total += engine.flattened(parts)
        return self.learner.ranks.sum(total)

    def _warn(self, label: str, row: str, ratio: float) -> None:
        if ratio > LARGE and label not in self._warned:
            self._warned.add(label)
            log.warning(
                "auxiliary %s: at step %d its gradient is %.1f times that of the base objective in row %s; "
                "a smaller weight leaves the direction of the update to the base objective",
                *(label, self.learner.step, ratio, row),
            )
