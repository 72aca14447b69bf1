"""The tasks in order, several times round: forgetting against frequency."""

from __future__ import annotations

import itertools

from pydantic import Field

from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.registry import register

from ._order import OrderedCurriculum
from ._stages import split


@register
class Interleaved(OrderedCurriculum):
    """The tasks one after the other, `rounds` times round, steps / (K rounds) each; one optimizer, no restarts.

    Between `sequential` (one round) and `joint` (a round a step). One schedule spans all stages: a cosine in each of
    these short stages would be a restart.
    """

    rounds: int = Field(10, ge=1)
    """How often each task comes; 1: sequential without its restarts."""

    def plan(self, history: History) -> list[Stage]:
        """Stages `rain-1`, `haze-1`, `rain-2` ..."""
        names = [(task, turn) for turn in range(1, self.rounds + 1) for task in self.ordered(history)]
        lengths = split(history.steps, [1] * len(names))
        starts = itertools.accumulate(lengths, initial=0)
        return [
            Stage(f"{task}-{turn}", {task: 1.0}, steps, span=(start, history.steps))
            for (task, turn), steps, start in zip(names, lengths, starts, strict=False)
        ]
