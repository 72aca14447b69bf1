"""The contract of a grouping: which tasks share a model, and which model restores an image of unknown degradation.

A grouping is a planner over runs. It reads probes (cheap proxy runs, features, gradients) and returns groups, each of
which becomes an ordinary run of the same strategy on its tasks. Shapes: K tasks, n patches, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.parts import Cost, Part

Array = NDArray[np.float64]
StepsRule = Literal["equal_total", "equal_per_group"]


@dataclass(frozen=True)
class Group:
    """Tasks that share a model."""

    tasks: tuple[str, ...]
    """Tasks that are trained together."""
    serves: tuple[str, ...]
    """Tasks whose images this model restores. Other tasks of the group only help to train it."""


@dataclass(frozen=True)
class Features:
    """Last-layer features of a fixed network on n patches of one degradation."""

    gram: Tensor
    """[n, n] float64: inner products of the patches' features, divided by the number of elements."""
    channels: Tensor
    """[n, 2C] float64: mean and standard deviation of each channel of each patch."""


@dataclass(frozen=True)
class Matrix:
    """A measured relation between tasks: [K, K], with one row and one column per task."""

    title: str
    tasks: tuple[str, ...]
    values: Array
    meaning: str
    """Meaning of an entry, in words: whether the row acts on the column, or the column on the row."""
    similar_is_high: bool = True

    def unit(self) -> tuple[float, str]:
        """Return a power of ten in whose units two decimals distinguish the entries, and its text for a title."""
        apart = np.abs(self.values[~np.eye(len(self.values), dtype=bool)])
        largest = float(np.nanmax(apart)) if np.isfinite(apart).any() else 1.0
        power = math.floor(math.log10(largest)) if largest > 0 else 0
        return (1.0, "") if -1 <= power <= 1 else (10.0**power, f" in units of 1e{power}")


class Probe(Protocol):
    """Measurements that a grouping may request before it decides. Each is cached in the folder of its run."""

    tasks: tuple[str, ...]
    seed: int

    def features(self) -> Mapping[str, Features]:
        """Return features of the frozen joint proxy on the same patches, under the degradation of each task."""

    def affinity(self, every: int, look_ahead: str) -> Array:
        """Return [K, K] over a proxy run. Entry a, b is Z_{b -> a}, the effect of a step of task b on the loss of a."""

    def cosines(self, every: int) -> Array:
        """Return [K, K] noise-corrected gradient cosines over a joint proxy run. NaN marks what is not measurable."""

    def validation(self, groups: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """Train a proxy run per group. Return, per group, task -> PSNR in dB on validation images."""

    def say(self, text: str) -> None:
        """Add a sentence to the report."""

    def under(self, grouping: Grouping) -> Probe:
        """Return the same probe with the share and the patches of another grouping."""


class Grouping(Part):
    """A planner that decides which tasks share a model, and a router for images of unknown task."""

    family: ClassVar[str] = "grouping"
    cost: ClassVar[Cost] = Cost(backward_passes="1, after the probes")
    work: ClassVar[str] = "cmtl_ir.grouping.execution:train_groups"
    """Function that trains a grouped strategy, as `module:function`. The room `runs` imports no planner."""
    steps: StepsRule = "equal_total"
    """equal_total: all groups together take training.steps, in proportion to their numbers of tasks. A task gets
    as many samples as in one joint run. equal_per_group: each group takes training.steps, as in the papers."""
    share: float = Field(0.1, gt=0, le=1)
    """Share of the budget of each proxy run (GRIDS: a tenth)."""
    patches: int = Field(301, ge=3)
    """N: number of patches per degradation on which the features of the proxy are computed. 300 components need 301."""
    size: int = Field(128, ge=8)
    """Side of these patches in pixels. Smaller images give smaller patches."""
    query: int = Field(16, ge=3)
    """n: number of patches of an image for which a model is chosen."""

    @property
    def routes(self) -> bool:
        """Whether the model of an image is chosen by the features of the proxy. If not, its task must be known."""
        return False

    @property
    def ready(self) -> Mapping[frozenset[str], str]:
        """Networks that exist, as tasks of a group -> finished run or file of weights. Empty: groups are trained."""
        return {}

    @property
    def needs_validation(self) -> bool:
        """Whether `plan` uses `probe.validation`, so that every task needs validation images."""
        return False

    def check(self, tasks: Sequence[str]) -> None:
        """Raise UserError for mistakes that are known before anything is trained."""

    def plan(self, tasks: Sequence[str], probe: Probe) -> list[Group]:
        """Return the groups. They may overlap, but each task is served by exactly one."""
        raise TypeError(f"{type(self).__name__} does not define how tasks are grouped")

    def matrix(self, tasks: Sequence[str], probe: Probe) -> Matrix:
        """Return the relation between tasks on which `plan` is based, for `cmtl-ir similarity`."""
        raise UserError(f"{self.called} measures nothing between tasks")

    def distances(self, references: Mapping[str, Features], query: Features) -> dict[str, float]:
        """Return the distances of the features of an image to those of each task."""
        raise TypeError(f"{type(self).__name__} routes no images")

    def alternatives(self) -> dict[str, Grouping]:
        """Return other routing rules for the report to compare: name -> this part under that rule."""
        return {}

    def route(self, distances: Mapping[str, float]) -> dict[str, float]:
        """Return task -> weight of the model that serves it, of sum 1. By default, the nearest task gets 1."""
        nearest = min(sorted(distances), key=distances.__getitem__)
        return {task: float(task == nearest) for task in distances}


def ordered(groups: Sequence[Group], tasks: Sequence[str]) -> list[Group]:
    """Return the groups and their tasks in the order of the experiment file.

    Raise UserError for tasks that are served by no group or by several.
    """
    place = {task: i for i, task in enumerate(tasks)}
    served = [task for group in groups for task in group.serves]
    wrong = [task for task in tasks if served.count(task) != 1] + sorted(set(served) - set(tasks))
    wrong += [task for group in groups for task in group.serves if task not in group.tasks]
    if wrong:
        raise UserError(
            f"grouping: each task must be served by exactly one group that holds it, unlike: {', '.join(wrong)}"
        )
    kept = [
        Group(
            tuple(sorted(set(group.tasks), key=place.__getitem__)), tuple(sorted(group.serves, key=place.__getitem__))
        )
        for group in groups
        if group.serves
    ]
    return sorted(kept, key=lambda group: ([place[task] for task in group.serves], [place[t] for t in group.tasks]))


def shared_steps(groups: Sequence[Group], steps: int, rule: StepsRule) -> list[int]:
    """Return the steps of each group's run. `equal_total` divides `steps` in proportion to the numbers of tasks."""
    if rule == "equal_per_group":
        return [steps] * len(groups)
    sizes = [len(group.tasks) for group in groups]
    wanted = [steps * size / sum(sizes) for size in sizes]
    counts = [math.floor(quota) for quota in wanted]
    late = sorted(range(len(groups)), key=lambda i: (counts[i] - wanted[i], groups[i].tasks))
    for i in late[: steps - sum(counts)]:
        counts[i] += 1
    if min(counts) < 1:
        raise UserError(
            f"training.steps: {steps} steps are too few for {len(groups)} groups; give more, or fewer groups"
        )
    return counts


def proxy_steps(tasks: int, of: int, steps: int, grouping: Grouping) -> int:
    """Return the steps of a proxy run on `tasks` of `of` tasks: its share of the steps of such a group."""
    part = tasks / of if grouping.steps == "equal_total" else 1.0
    return max(1, round(grouping.share * steps * part))
