"""Random groups of given sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import field_serializer, field_validator, model_validator

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.keyed import name_key
from cmtl_ir.base.problems import Problem
from cmtl_ir.strategy.grouping import Group, Grouping, Probe
from cmtl_ir.strategy.making import described, part_from
from cmtl_ir.strategy.registry import register

from ._routed import RoutedGrouping


@register
class Random(RoutedGrouping):
    """Groups of the same sizes with shuffled tasks: the control without which similarity proves nothing."""

    like: Grouping | None = None
    """Grouping whose sizes (and overlaps) are taken: a name, or {name: ..., field: value}; null: `sizes` is given."""
    sizes: list[int] | None = None
    """Sizes of the groups; null: `like` is given."""
    draw: int = 0
    """Number of the shuffle. The shuffle also depends on the seed."""

    @field_validator("like", mode="before")
    @classmethod
    def _part(cls, given: Any) -> Any:
        if given is None or isinstance(given, Grouping):
            return given
        problems: list[Problem] = []
        part = part_from("grouping", given, "", problems)
        if part is None:
            raise ValueError("; ".join(map(str, problems)))
        return part

    @field_serializer("like")
    def _plain(self, like: Grouping | None) -> Any:
        return described(like)

    @model_validator(mode="after")
    def _one_source(self) -> Random:
        if (self.like is None) == (self.sizes is None):
            raise ValueError("give either like: another grouping or sizes: [3, 2, ...]")
        return self

    @property
    def needs_validation(self) -> bool:
        return self.like is not None and self.like.needs_validation

    def named_tasks(self) -> Sequence[str]:
        return self.like.named_tasks() if self.like is not None else ()

    def check(self, tasks: Sequence[str]) -> None:
        """Raise UserError if the sizes do not sum to the number of tasks."""
        if self.like is not None:
            self.like.check(tasks)
        elif sum(self.sizes or ()) != len(tasks) or min(self.sizes or (0,)) < 1:
            raise UserError(f"grouping.sizes: {self.sizes} must be positive and sum to {len(tasks)} tasks")

    def plan(self, tasks: Sequence[str], probe: Probe) -> list[Group]:
        """Return the groups of `like`, or groups of `sizes`, under a keyed shuffle of the task names."""
        shuffled = sorted(tasks, key=lambda task: name_key(probe.seed, "random groups", self.draw, task))
        if self.like is not None:
            other = dict(zip(sorted(tasks), shuffled, strict=True))
            groups = self.like.plan(tasks, probe.under(self.like))
            return [
                Group(tuple(map(other.__getitem__, g.tasks)), tuple(map(other.__getitem__, g.serves))) for g in groups
            ]
        rest = iter(shuffled)
        lists = [tuple(next(rest) for _ in range(size)) for size in self.sizes or ()]
        return [Group(group, group) for group in lists]
