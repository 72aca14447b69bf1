"""The order of tasks, a field of every sequential curriculum."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from cmtl_ir.errors import ConfigError
from cmtl_ir.keyed import name_key
from cmtl_ir.strategy import Curriculum, History, Learner

LOOKED_AT_ONCE = 50  # pairs held in memory while entropies are measured


class OrderedCurriculum(Curriculum):
    """A curriculum that takes the tasks one after the other."""

    order: Literal["listed", "reverse", "random", "entropy_difference", "affinity"] | list[str] = "listed"
    """listed: as in the experiment file; reverse; random: by hash(seed, name); entropy_difference: ascending;
    affinity: by a TAG matrix; or an explicit list of task names."""
    entropy: Literal["absolute", "signed"] = "absolute"
    """entropy_difference: |H(degraded) - H(clean)| or the signed difference; they order differently."""
    entropy_pairs: int = Field(500, ge=1)
    """entropy_difference: how many training pairs of each task are looked at."""
    affinity: str | None = None
    """affinity: JSON file {a: {b: how much a step on b lowers the loss of a}}, as TAG writes it."""

    @field_validator("order")
    @classmethod
    def _once_each(cls, order: str | list[str]) -> str | list[str]:
        if isinstance(order, list) and len(set(order)) < len(order):
            raise ValueError("an explicit order names every task once")
        return order

    def named_tasks(self) -> Sequence[str]:
        """The tasks of an explicit order."""
        return self.order if isinstance(self.order, list) else ()

    def ordered(self, history: History) -> list[str]:
        """The tasks of this run in the order asked for; found once, then kept in `state`."""
        if "order" not in self.state:
            self.state["order"] = self._find_order(history)
        return list(self.state["order"])

    def _find_order(self, history: History) -> list[str]:
        tasks, learner = list(history.tasks), history.learner
        if isinstance(self.order, list):
            return explicit_order(self.order, tasks)
        if self.order == "affinity":
            return affinity_order(read_affinity(self.affinity, tasks), tasks)
        if self.order == "entropy_difference":
            measured = {task: entropy_difference(learner, task, self.entropy_pairs) for task in tasks}
            return sorted(tasks, key=lambda t: (abs(measured[t]) if self.entropy == "absolute" else measured[t], t))
        orders: dict[str, Callable[[], list[str]]] = {
            "listed": lambda: tasks,
            "reverse": lambda: tasks[::-1],
            "random": lambda: sorted(tasks, key=lambda task: name_key(learner.seed, "order", task)),
        }
        return orders[self.order]()


def explicit_order(order: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """The list without tasks that this run lacks (a group's run has some of them only)."""
    if missing := [task for task in tasks if task not in order]:
        raise ConfigError(f"curriculum.order: {', '.join(missing)} is not in the list {list(order)}")
    return [task for task in order if task in tasks]


# -------------------------------------------------------------------------------------------- entropy difference


def luminance_entropy(images: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] -> [B] float64: entropy in bits of the histogram of 8-bit luminance (BT.601)."""
    red, green, blue = images.double().unbind(1)
    levels = (255.0 * (0.299 * red + 0.587 * green + 0.114 * blue)).round().clamp(0, 255).long().flatten(1)  # [B, HW]
    offsets = 256 * torch.arange(len(levels), device=levels.device)[:, None]
    counts = torch.bincount((levels + offsets).flatten(), minlength=256 * len(levels)).view(len(levels), 256)
    return torch.special.entr(counts / levels.shape[1]).sum(1) / torch.log(torch.tensor(2.0, dtype=torch.float64))


def entropy_difference(learner: Learner, task: str, pairs: int) -> float:
    """Mean of H(degraded) - H(clean) over the task's first `pairs` samples, in bits; moves no counter."""
    total = 0.0
    for ids in torch.arange(pairs).split(LOOKED_AT_ONCE):
        batch = learner.batch(task, ids)
        total += float((luminance_entropy(batch.degraded) - luminance_entropy(batch.clean)).sum())
    return total / pairs


# ------------------------------------------------------------------------------------------------------ affinity


def read_affinity(file: str | None, tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    """The matrix of a file, checked to cover the tasks."""
    if file is None:
        raise ConfigError("curriculum.affinity: order `affinity` needs a matrix file (grouping `tag` measures one)")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ConfigError(f"curriculum.affinity: no file {path}")
    matrix = json.loads(path.read_text())
    missing = [f"{a} <- {b}" for a in tasks for b in tasks if a != b and b not in matrix.get(a, {})]
    if missing:
        raise ConfigError(f"curriculum.affinity: {path} lacks {', '.join(missing[:3])}")
    return matrix


def affinity_order(matrix: Mapping[str, Mapping[str, float]], tasks: Sequence[str]) -> list[str]:
    """First the task that helps the others most; then always the one that the tasks so far help most [ours]."""

    def helped(task: str, by: Sequence[str]) -> float:
        return sum(matrix[task][other] for other in by if other != task)

    rest = sorted(tasks)
    order = [max(rest, key=lambda task: sum(matrix[other][task] for other in rest if other != task))]
    while len(order) < len(rest):
        order.append(max((task for task in rest if task not in order), key=lambda task: helped(task, order)))
    return order
