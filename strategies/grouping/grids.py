"""Grouping by the similarity of deep degradation representations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from cmtl_ir.strategy.grouping import Group, Matrix, Probe
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._ggd import distance
from ._linkage import Partition, complete_linkage
from ._representation import represent
from ._routed import RoutedGrouping, refuse_count


@register
class Grids(RoutedGrouping):
    """GRIDS (Cao et al., ECCV 2024, arXiv 2407.12273, Sec. 3; the measure: Liu et al., SRGA, TPAMI 2023, its code).

    Last-layer features of a fixed network are taken on the same patches under each degradation, with 300 principal
    components each. One generalised Gaussian is fitted to all coefficients, so only two numbers per degradation are
    kept. The distance is the symmetric KL. The plan has the fewest groups of a complete-linkage tree whose predicted
    drop max_k (single_k - group_k) is at most delta. Departures: the network is a frozen joint proxy (theirs:
    SRResNet), and the drop is measured on validation images. Binary search assumes that the drop falls with the number
    of groups, as in the paper.
    """

    cost: ClassVar[Cost] = Cost("1, after a joint proxy; without `groups` also one proxy per task and per group tried")

    groups: int | None = Field(None, ge=1)
    """Number of groups; null: the fewest whose predicted drop is at most `delta` (needs validation images)."""
    delta: float = Field(0.1, ge=0)
    """Largest predicted drop in dB that is allowed for a task against a model of its own."""

    @property
    def needs_validation(self) -> bool:
        """True without `groups`, because the drop is predicted from validation images."""
        return self.groups is None

    def check(self, tasks: Sequence[str]) -> None:
        refuse_count(self.groups, tasks)

    def matrix(self, tasks: Sequence[str], probe: Probe) -> Matrix:
        """Return the symmetric KL between the tasks' generalised Gaussians."""
        features = probe.features()
        fits = [represent(features[task].gram, self.components, self.features) for task in tasks]
        saturated = [task for task, one in zip(tasks, fits, strict=True) if one.saturated]
        if saturated:
            probe.say(f"the fitted shape of {', '.join(saturated)} is at an end of its range: interpret it with care")
        values = np.array([[0.0 if a is b else distance(a, b) for b in fits] for a in fits])
        meaning = "symmetric KL divergence of generalised Gaussians; 0 is the same"
        return Matrix("degradation distance (GRIDS)", tuple(tasks), values, meaning, similar_is_high=False)

    def plan(self, tasks: Sequence[str], probe: Probe) -> list[Group]:
        """Cut the tree at `groups` groups or, without it, where the predicted drop allows."""
        tree = complete_linkage(self.matrix(tasks, probe).values, tasks)
        partitions = {len(partition): _named(partition, tasks) for _, partition in tree}
        count = self.groups if self.groups is not None else self._fewest(partitions, probe)
        return [Group(group, group) for group in partitions[count]]

    def _fewest(self, partitions: dict[int, list[tuple[str, ...]]], probe: Probe) -> int:
        """Return the smallest allowed number of groups by binary search. With one model per task the drop is 0."""
        single = probe.validation(partitions[len(partitions)])
        alone = {task: score for scores in single for task, score in scores.items()}
        low, high = 1, len(partitions)
        while low < high:
            middle = (low + high) // 2
            drop = max(
                alone[task] - own for scores in probe.validation(partitions[middle]) for task, own in scores.items()
            )
            fits = drop <= self.delta
            probe.say(f"{middle} group(s): predicted drop {drop:.2f} dB, {'allowed' if fits else 'too much'}")
            low, high = (low, middle) if fits else (middle + 1, high)
        return low


def _named(partition: Partition, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(tasks[i] for i in sorted(group)) for group in partition]
