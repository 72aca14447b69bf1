"""Gradients of all rows of a step, by one of two engines.

A sample belongs to one row, so the graphs of the rows are disjoint: M row gradients cost the FLOPs of one joint pass.
Shapes: M rows, P parameters, N samples.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from cmtl_ir.base.ranks import Ranks
from cmtl_ir.gradients.coupling import coupling_modules, refuse_coupling
from cmtl_ir.gradients.jacobian import Forward, Jacobian, Losses
from cmtl_ir.gradients.one_pass import fill_in_one_pass
from cmtl_ir.gradients.probe import why_not_one_pass
from cmtl_ir.gradients.sink import Unsupported
from cmtl_ir.gradients.stream import fill_by_row

log = logging.getLogger("cmtl_ir")

Engine = Literal["stream", "grouped"]


class RowGradients(Jacobian):
    """A Jacobian filled from one joint forward and backward pass (`grouped`) or row by row (`stream`)."""

    def __init__(
        self,
        model: nn.Module,
        rows: int,
        engine: Engine,
        micro_batch: int | None = None,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`micro_batch`: largest number of samples per forward pass (`stream` only). `None` means no limit.

        `aside`: context of the check before the first joint pass, whose passes are not part of a step.
        """
        super().__init__(model, rows)
        self.engine, self.micro_batch = engine, micro_batch
        self.fallback: str | None = None
        """Reason why `stream` replaced `grouped`, or `None` if it did not."""
        self._probed, self._aside = False, aside
        self._coupling = list(coupling_modules(model))

    def __call__(self, forward: Forward, sizes: Sequence[int], losses: Losses) -> tuple[Tensor, list[Tensor]]:
        """Return the raw gradients of the rows' mean losses, and these losses, detached.

        The gradients are a view [M, P] of a buffer that the next call overwrites. `sizes`: samples of each row, [M].

        Raises:
            ValueError: if samples of different rows see each other.
        """
        refuse_coupling(self._coupling)
        if len(sizes) > len(self.buffer):
            self.allocate(len(sizes))
        rows = self.buffer[: len(sizes)]
        if self.engine == "grouped" and self.fallback is None and len(sizes) > 1:
            try:
                return rows, self._in_one_pass(forward, sizes, losses)
            except Unsupported as error:
                self.fallback = str(error)
                log.warning("row gradients go row by row (engine stream): %s", error)
        return rows, fill_by_row(self, forward, sizes, losses, self.micro_batch)

    def _in_one_pass(self, forward: Forward, sizes: Sequence[int], losses: Losses) -> list[Tensor]:
        if not self._probed:
            with self._aside():
                reason = why_not_one_pass(self, forward, sizes)
            if reason is not None:
                raise Unsupported(reason)
            self._probed = True
        return fill_in_one_pass(self, forward, sizes, losses)


LARGE_ROW = 1 << 16  # pixels; measured on a CPU, two threads (tests/benchmarks/RESULTS.md), not on a GPU


def choose_engine(samples_per_row: float, patch: int) -> Engine:
    """Return the faster engine by a fixed rule. Timing inside a run would change its last bits between repeats.

    `grouped` saves the passes of small rows. If one row fills the cores and exceeds the caches, `stream` is as fast
    with 1/K of the activation memory.
    """
    return "grouped" if samples_per_row * patch * patch < LARGE_ROW else "stream"


@torch.no_grad()
def sum_gradients(parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """Sum `.grad` over the ranks in one exchange. It stays `None` if it is `None` on all ranks, as in autograd."""
    if ranks.count == 1:
        return
    reached = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = ranks.sum(torch.cat([reached, *(one.flatten() for one in own)]))
    summed = flat[len(parameters) :].split([p.numel() for p in parameters])
    for parameter, value, known in zip(parameters, summed, flat[: len(parameters)].tolist(), strict=True):
        parameter.grad = own_layout(parameter, value) if known else None


def own_layout(parameter: Tensor, flat: Tensor) -> Tensor:
    """Return flat values, in the order of `flatten`, with the parameter's shape and strides."""
    return torch.empty_like(parameter).copy_(flat.view(parameter.shape))
