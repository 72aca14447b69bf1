"""The tasks in order, several times round: forgetting against frequency."""

from __future__ import annotations

from pydantic import Field

from cmtl_ir.registry import register
from cmtl_ir.strategy import History, Schedule, Stage

from ._order import OrderedCurriculum
from ._stages import split


@register
class Interleaved(OrderedCurriculum):
    """The tasks one after the other, `rounds` times round, steps / (K rounds) each; one optimizer, no restarts.

    Between `sequential` (one round) and `joint` (a round a step). Schedules are stage-local, and a cosine in each of
    these short stages would be a restart: the learning rate is constant.
    """

    rounds: int = Field(10, ge=1)
    """How often each task comes; 1: sequential without its restarts."""

    def plan(self, history: History) -> list[Stage]:
        """Stages `rain-1`, `haze-1`, `rain-2` ..."""
        names = [(task, turn) for turn in range(1, self.rounds + 1) for task in self.ordered(history)]
        lengths = split(history.steps, [1] * len(names))
        constant = Schedule(kind="constant")
        return [
            Stage(f"{task}-{turn}", {task: 1.0}, steps, schedule=constant)
            for (task, turn), steps in zip(names, lengths, strict=True)
        ]
