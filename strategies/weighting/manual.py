"""Fixed task weights."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, NonNegativeFloat
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from ._named import on_device_of


@register
class Manual(Weighting):
    """Given weights w_k (linear scalarisation with fixed weights).

    A row takes the weight of its own name (`review:rain`), otherwise that of its task (`rain`), otherwise 1.
    """

    by_task: dict[str, NonNegativeFloat] = Field(min_length=1)
    """Task (or row) name -> weight. All other names have weight 1."""

    def named_tasks(self) -> Sequence[str]:
        return [name.rpartition(":")[2] for name in self.by_task]

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        return on_device_of([self._of(row) for row in context.rows], losses)

    def _of(self, row: str) -> float:
        return self.by_task.get(row, self.by_task.get(row.rpartition(":")[2], 1.0))
