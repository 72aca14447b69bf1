"""Replay of old samples with stored outputs and, in a second draw, with true targets."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.registry import register

from .der import DER


@register
class DERPlusPlus(DER):
    """DER++ (Buzzega et al., NeurIPS 2020): alpha l(f(x), z) + beta l(f(x'), y'), x' a second independent draw.

    Rows `memory:TASK` and `target:TASK` draw from one memory. Each kind takes half of `share`.
    """

    beta: float = Field(0.5, ge=0)
    """Weight of a remembered sample with its true target relative to a new one."""

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return `memory:TASK` and `target:TASK` for every old task."""
        outputs = super().rows(stage, learner)
        targets = self.memory_rows(stage, self.share, self.beta)
        renamed = [replace(row, name=f"target:{row.task}") for row in targets]
        return [replace(row, share=row.share / 2) for row in outputs + renamed]
