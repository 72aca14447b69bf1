"""Tasks in order over several rounds, which sets forgetting against the frequency of visits."""

from __future__ import annotations

import itertools

from pydantic import Field

from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.registry import register

from ._order import OrderedCurriculum
from ._stages import split


@register
class Interleaved(OrderedCurriculum):
    """Tasks one after another over `rounds` rounds, steps / (K rounds) each, with one optimizer and no restarts.

    This is between `sequential` (one round) and `joint` (one round per step). One schedule spans all stages, because a
    cosine in each of these short stages would be a restart.
    """

    rounds: int = Field(10, ge=1)
    """Number of visits to each task. With 1 it is `sequential` without restarts."""

    def plan(self, history: History) -> list[Stage]:
        """Return the stages `rain-1`, `haze-1`, `rain-2` and so on."""
        names = [(task, turn) for turn in range(1, self.rounds + 1) for task in self.ordered(history)]
        lengths = split(history.steps, [1] * len(names))
        starts = itertools.accumulate(lengths, initial=0)
        return [
            Stage(f"{task}-{turn}", {task: 1.0}, steps, span=(start, history.steps))
            for (task, turn), steps, start in zip(names, lengths, starts, strict=False)
        ]
