"""Grouping by how well pairs of tasks do together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from cmtl_ir.strategy.grouping import Group, Matrix, Probe
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._routed import RoutedGrouping, refuse_count
from ._select import choose


@register
class Hoa(RoutedGrouping):
    """Higher-order approximation (Standley et al., ICML 2020, Sec. 5): a group is worth the mean of its pairs.

    A proxy for each task and each pair; a task's score in a group is the mean over its partners of its validation gain
    in that pair over its own proxy, in dB; alone it is 0. Selection as in TAG. K (K + 1) / 2 proxies: for few tasks.
    Departure: PSNR gains instead of losses, so that tasks weigh alike.
    """

    cost: ClassVar[Cost] = Cost("1, after K (K + 1) / 2 proxies")

    groups: int = Field(3, ge=1)
    """At most so many groups."""

    @property
    def needs_validation(self) -> bool:
        """Pairs are scored on validation images."""
        return True

    def check(self, tasks: Sequence[str]) -> None:
        """Not more groups than tasks."""
        refuse_count(self.groups, tasks)

    def matrix(self, tasks: Sequence[str], probe: Probe) -> Matrix:
        """Row a, column b: PSNR of a trained with b minus that of a alone."""
        single = probe.validation([(task,) for task in tasks])
        alone = {task: score for scores in single for task, score in scores.items()}
        pairs = list(itertools.combinations(range(len(tasks)), 2))
        scored = probe.validation([(tasks[a], tasks[b]) for a, b in pairs])
        values = np.zeros((len(tasks), len(tasks)))
        for (a, b), scores in zip(pairs, scored, strict=True):
            values[a, b] = scores[tasks[a]] - alone[tasks[a]]
            values[b, a] = scores[tasks[b]] - alone[tasks[b]]
        meaning = "validation gain in dB of the row's task when it is trained with the column's"
        return Matrix("pair gain (HOA)", tuple(tasks), values, meaning)

    def plan(self, tasks: Sequence[str], probe: Probe) -> list[Group]:
        """The groups of largest predicted mean gain."""
        chosen = choose(self.matrix(tasks, probe).values, self.groups, alone=0.0)
        probe.say(f"predicted mean gain over single-task proxies: {chosen.total:.2f} dB")
        return chosen.named(tasks)
