"""Order of the tasks, a field of every curriculum that trains them one after another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.keyed import name_key
from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.parts import Curriculum

from ._entropy import entropy_difference

Order = Literal["listed", "reverse", "random", "entropy_difference", "affinity"] | list[str]
Affinity = Mapping[str, Mapping[str, float]]
"""Task a -> {task b: how much a step on b lowers the loss of a}, in the format of TAG's authors."""


class OrderedCurriculum(Curriculum):
    """A curriculum that trains the tasks one after another."""

    order: Order = "listed"
    """listed: as in the experiment file; reverse: the opposite; random: by hash(seed, name); entropy_difference:
    ascending; affinity: by a TAG matrix; or an explicit list of task names."""
    entropy: Literal["absolute", "signed"] = "absolute"
    """For entropy_difference: |H(degraded) - H(clean)| or the signed difference. The two give different orders."""
    entropy_pairs: int = Field(500, ge=1)
    """For entropy_difference: number of training pairs measured per task."""
    affinity: dict[str, dict[str, float]] | None = None
    """For affinity: {a: {b: how much a step on b lowers the loss of a}}, or a JSON file with it, such as grouping `tag`
    writes to `probes` in its run folder. The values, not the file's name, are part of the run. null for all other
    orders."""

    @field_validator("order")
    @classmethod
    def _once_each(cls, order: Order) -> Order:
        if isinstance(order, list) and len(set(order)) < len(order):
            raise ValueError("an explicit order must name every task once")
        return order

    @field_validator("affinity", mode="before")
    @classmethod
    def _from_file(cls, given: Any) -> Any:
        return read_affinity(Path(given)) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _affinity_has_a_matrix(self) -> Self:
        if self.order == "affinity" and self.affinity is None:
            raise ValueError(
                "order `affinity` needs the field `affinity`; `cmtl-ir similarity FILE --measure tag` computes it"
            )
        return self

    def named_tasks(self) -> Sequence[str]:
        return self.order if isinstance(self.order, list) else ()

    def plan(self, history: History) -> list[Stage]:
        """Return all stages of the run."""
        raise TypeError(f"{type(self).__name__} does not implement `plan`")

    def next_stage(self, history: History) -> Stage | None:
        """Return the first stage of the plan that is not finished, or `None` if all are finished."""
        stages, done = self.plan(history), len(history.stages)
        return stages[done] if done < len(stages) else None

    def ordered(self, history: History) -> list[str]:
        """Return the tasks of this run in the chosen order, which is computed once and then kept in `state`."""
        if "order" not in self.state:
            self.state["order"] = self._find_order(list(history.tasks), history)
        return list(self.state["order"])

    def _find_order(self, tasks: list[str], history: History) -> list[str]:
        if isinstance(self.order, list):
            return explicit_order(self.order, tasks)
        if self.order == "reverse":
            return tasks[::-1]
        if self.order == "random":
            return sorted(tasks, key=lambda task: name_key(history.learner.seed, "order", task))
        if self.order == "affinity":
            return affinity_order(self.affinity or {}, tasks)
        if self.order == "entropy_difference":
            bits = {task: entropy_difference(history.learner, task, self.entropy_pairs) for task in tasks}
            return sorted(tasks, key=lambda task: (abs(bits[task]) if self.entropy == "absolute" else bits[task], task))
        return tasks


def explicit_order(order: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Return the list without the tasks that this run lacks, since the run of a group has only some of them.

    Raise ConfigError if the list lacks a task of the run.
    """
    if missing := [task for task in tasks if task not in order]:
        raise ConfigError(f"curriculum.order: {', '.join(missing)} missing from the list {list(order)}")
    return [task for task in order if task in tasks]


def read_affinity(file: Path) -> Any:
    """Return the content of a JSON file. Raise ValueError with the file's name if it cannot be read."""
    try:
        return json.loads(file.expanduser().read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {file}: {error}") from error


def affinity_order(matrix: Affinity, tasks: Sequence[str]) -> list[str]:
    """Return the tasks in a greedy order by affinity [ours].

    The first task is the one that helps the others most. Each next task is the one that the tasks before it help most.
    Raise ConfigError if the matrix lacks a pair of tasks.
    """
    if missing := [f"{a} <- {b}" for a in tasks for b in tasks if a != b and b not in matrix.get(a, {})]:
        raise ConfigError(f"curriculum.affinity: the matrix lacks {', '.join(missing[:3])}")
    rest, order = sorted(tasks), list[str]()
    while rest:
        gain = {task: sum(matrix[task][done] for done in order) for task in rest}
        if not order:
            gain = {task: sum(matrix[other][task] for other in rest if other != task) for task in rest}
        order.append(max(rest, key=gain.__getitem__))
        rest.remove(order[-1])
    return order
