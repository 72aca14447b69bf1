"""Grouping by the joint performance of pairs of tasks."""

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

    There is one proxy per task and per pair. A task's score in a group is the mean over its partners of its validation
    gain in that pair over its own proxy, in dB. Alone its score is 0. Groups are selected as in TAG. The K (K + 1) / 2
    proxies are affordable for few tasks only. Departure: PSNR gains instead of losses, so that tasks have equal weight.
    """

    cost: ClassVar[Cost] = Cost("1, after K (K + 1) / 2 proxies")

    groups: int = Field(3, ge=1)
    """Largest number of groups."""

    @property
    def needs_validation(self) -> bool:
        return True

    def check(self, tasks: Sequence[str]) -> None:
        refuse_count(self.groups, tasks)

    def matrix(self, tasks: Sequence[str], probe: Probe) -> Matrix:
        """Return the pair gains. Row a, column b is the PSNR of a trained with b minus that of a alone."""
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
        """Return the groups of largest predicted mean gain."""
        chosen = choose(self.matrix(tasks, probe).values, self.groups, alone=0.0)
        probe.say(f"predicted mean gain over single-task proxies: {chosen.total:.2f} dB")
        return chosen.named(tasks)
