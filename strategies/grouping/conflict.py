"""Grouping by the agreement of the tasks' gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from cmtl_ir.strategy.grouping import Group, Matrix, Probe
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._linkage import complete_linkage
from ._routed import RoutedGrouping, refuse_count


@register
class Conflict(RoutedGrouping):
    """Complete linkage on the noise-corrected cosine of the tasks' gradients over a joint proxy run [ours].

    Sampling noise shrinks raw mini-batch cosines towards 0, so conflicting tasks would look like unrelated ones. Pairs
    whose corrected cosine is not measurable count as 0. Without `groups`, the plan has the fewest groups in which no
    pair is below `threshold`.
    """

    cost: ClassVar[Cost] = Cost("1, after a joint proxy with row gradients in halves")

    groups: int | None = Field(None, ge=1)
    """Number of groups; null: decided by `threshold`."""
    threshold: float = Field(0.0, ge=-1, le=1)
    """Smallest cosine of any pair within a group."""
    every: int = Field(5, ge=1)
    """Steps of the proxy between measurements of the gradients."""

    def check(self, tasks: Sequence[str]) -> None:
        refuse_count(self.groups, tasks)

    def matrix(self, tasks: Sequence[str], probe: Probe) -> Matrix:
        """Return the noise-corrected cosines, NaN where not measurable."""
        meaning = "noise-corrected cosine of the tasks' gradients, pooled over a joint run"
        return Matrix("gradient cosine", tuple(tasks), probe.cosines(self.every), meaning)

    def plan(self, tasks: Sequence[str], probe: Probe) -> list[Group]:
        """Cut the tree at `groups` groups or at the cosine `threshold`."""
        cosines = np.nan_to_num(self.matrix(tasks, probe).values, nan=0.0)
        tree = complete_linkage(1.0 - cosines, tasks)
        allowed = [partition for height, partition in tree if height <= 1.0 - self.threshold]
        chosen = tree[len(tasks) - self.groups][1] if self.groups is not None else allowed[-1]
        groups = [tuple(tasks[i] for i in sorted(group)) for group in chosen]
        return [Group(group, group) for group in groups]
