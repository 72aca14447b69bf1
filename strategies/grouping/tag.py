"""Task affinity grouping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from cmtl_ir.strategy.grouping import Group, Matrix, Probe
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._routed import RoutedGrouping, refuse_count
from ._select import choose


@register
class Tag(RoutedGrouping):
    """TAG (Fifty et al., NeurIPS 2021, Eq. 1 and Sec. 4; authors' code): Z_{i->j} = 1 - l_j(theta_i) / l_j(theta).

    theta_i are the weights after one step on task i alone, and Z is averaged over a joint run. A task's score in a
    group is the mean over its partners of their effect on it. At most `groups` groups with the largest mean of best
    scores are chosen, exactly up to 12 tasks. Beyond that, a beam search proposes candidates. Groups may overlap, and a
    task helps where it is not served. Departures: a proxy run of `share` of the budget (published: a whole run); the
    step is the optimizer's own (published: plain SGD); all weights move (published: those of the shared encoder).
    """

    cost: ClassVar[Cost] = Cost("1, after a joint proxy with K backward and K * K forward passes at each measurement")

    groups: int = Field(3, ge=1)
    """Largest number of groups."""
    every: int = Field(10, ge=1)
    """Steps of the proxy between look-ahead measurements."""
    look_ahead: Literal["adam", "sgd"] = "adam"
    """adam: along the gradient under the optimizer's preconditioner [ours]; sgd: along the plain gradient, Z divided by
    the learning rate (published)."""

    def check(self, tasks: Sequence[str]) -> None:
        refuse_count(self.groups, tasks)

    def matrix(self, tasks: Sequence[str], probe: Probe) -> Matrix:
        """Return the affinities. Row a, column b is the effect of a step on b on the loss of a."""
        meaning = "share of the row's loss that a step on the column's task takes away, mean over a joint run"
        return Matrix("task affinity (TAG)", tuple(tasks), probe.affinity(self.every, self.look_ahead), meaning)

    def plan(self, tasks: Sequence[str], probe: Probe) -> list[Group]:
        """Return the groups of largest mean affinity."""
        chosen = choose(self.matrix(tasks, probe).values, self.groups)
        probe.say(f"predicted affinity {chosen.total:.3g} (mean over tasks of the best group's)")
        return chosen.named(tasks)
