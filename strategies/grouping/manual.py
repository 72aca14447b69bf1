"""Groups given by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.record import OmitIfDefault
from cmtl_ir.strategy.grouping import Group, Probe
from cmtl_ir.strategy.registry import register

from ._routed import RoutedGrouping


@register
class Manual(RoutedGrouping):
    """Groups as given. A task in several groups is served by the first of them and helps in the others."""

    groups: Literal["each", "all"] | list[list[str]]
    """Lists of task names; each: every task has a model of its own; all: one model for all tasks."""

    models: Annotated[list[str] | None, OmitIfDefault()] = None
    """Networks that exist, one for each list of `groups`: a finished run, or a file of weights of the experiment's
    backbone. They are scored and not trained; null: each group is trained."""

    @property
    def ready(self) -> Mapping[frozenset[str], str]:
        """Return the given networks by the tasks of their groups."""
        if self.models is None or isinstance(self.groups, str):
            return {}
        pairs = zip(self.groups, self.models, strict=True)
        return {frozenset(group): model for group, model in reversed(list(pairs))}

    def named_tasks(self) -> Sequence[str]:
        return () if isinstance(self.groups, str) else [task for group in self.groups for task in group]

    def check(self, tasks: Sequence[str]) -> None:
        """Raise UserError if a task is in no group, or twice in the same one, or if a group is empty."""
        if self.models is not None and (isinstance(self.groups, str) or len(self.models) != len(self.groups)):
            raise UserError("grouping.models: give `groups` as lists of tasks, and one network for each of them")
        if isinstance(self.groups, str):
            return
        for group in self.groups:
            if not group or len(set(group)) < len(group):
                raise UserError(f"grouping.groups: {group} {'names a task twice' if group else 'is an empty group'}")
        if missing := [task for task in tasks if task not in self.named_tasks()]:
            raise UserError(
                f"grouping.groups: no group holds {', '.join(missing)}; [{missing[0]}] is a group of its own"
            )

    def plan(self, tasks: Sequence[str], probe: Probe) -> list[Group]:
        """Return the given groups in their order."""
        if isinstance(self.groups, str):
            lists = [[task] for task in tasks] if self.groups == "each" else [list(tasks)]
        else:
            lists = self.groups
        served: set[str] = set()
        made = []
        for group in lists:
            made.append(Group(tuple(group), tuple(task for task in group if task not in served)))
            served |= set(group)
        return [group for group in made if group.serves]
