"""Replay of old samples with their true targets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.registry import register

from ..shared.tasks import own_tasks
from ._memory import Remembering


@register
class Replay(Remembering):
    """Experience replay (Chaudhry et al. 2019, arXiv 1902.10486, Alg. 1): a part of every batch comes from a memory.

    With `capacity: all`, `share: uniform` and strength 1, sequential + replay equals `cumulative` up to rounding.
    """

    share: Annotated[float, Field(ge=0, lt=1)] | Literal["uniform"] = 0.5  # type: ignore[assignment]
    """Share of the batch that old tasks take together, split equally; uniform: the same share for every task, old or
    new."""
    strength: float = Field(1.0, ge=0)
    """lambda: weight of a remembered sample relative to a new one."""

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return `memory:TASK` for every old task."""
        if self.share != "uniform":
            return self.memory_rows(stage, self.share, self.strength)
        old, new = len(self.remembered(stage)), len(own_tasks(stage))
        return self.memory_rows(stage, old / (old + new), self.strength)
