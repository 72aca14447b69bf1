"""The contract of a grouping: which tasks share a model, and which model an image of unknown degradation goes to.

A grouping is a planner over runs: it looks at probes (cheap proxy runs, features, gradients), answers with groups, and
each group becomes an ordinary run of the same strategy on its tasks. Legend: K tasks, n patches, C channels.
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
    """Trained together."""
    serves: tuple[str, ...]
    """Those of them whose images this model restores; the others only help."""


@dataclass(frozen=True)
class Features:
    """Last-layer features of a fixed network on n patches of one degradation."""

    gram: Tensor
    """[n, n] float64: inner products of the patches' features, divided by the number of elements."""
    channels: Tensor
    """[n, 2C] float64: mean and standard deviation of each channel of each patch."""


@dataclass(frozen=True)
class Matrix:
    """What a grouping measures between tasks: [K, K], row and column by task."""

    title: str
    tasks: tuple[str, ...]
    values: Array
    meaning: str
    """What an entry says, in words: which of row and column acts on which."""
    similar_is_high: bool = True

    def unit(self) -> tuple[float, str]:
        """A power of ten in whose units two decimals tell the entries apart, and how a title says so."""
        apart = np.abs(self.values[~np.eye(len(self.values), dtype=bool)])
        largest = float(np.nanmax(apart)) if np.isfinite(apart).any() else 1.0
        power = math.floor(math.log10(largest)) if largest > 0 else 0
        return (1.0, "") if -1 <= power <= 1 else (10.0**power, f" in units of 1e{power}")


class Probe(Protocol):
    """What a grouping may ask of the data before it decides. Every answer is cached beside the run that gave it."""

    tasks: tuple[str, ...]
    seed: int

    def features(self) -> Mapping[str, Features]:
        """Features of the frozen joint proxy on the same patches under each task's degradation."""

    def affinity(self, every: int, look_ahead: str) -> Array:
        """[K, K]: entry a, b is Z_{b -> a}, what a step of task b does to the loss of a, over a joint proxy run."""

    def cosines(self, every: int) -> Array:
        """[K, K] noise-corrected gradient cosines over a joint proxy run; NaN where not measurable."""

    def validation(self, groups: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """For each group a proxy run on its tasks: task -> PSNR in dB on validation images."""

    def say(self, text: str) -> None:
        """A sentence for the report."""

    def under(self, grouping: Grouping) -> Probe:
        """The same probe with another grouping's share and patches."""


class Grouping(Part):
    """Which tasks share a model: a planner over runs, and a router for images of unknown task."""

    family: ClassVar[str] = "grouping"
    cost: ClassVar[Cost] = Cost(backward_passes="1, after the probes")
    work: ClassVar[str] = "cmtl_ir.grouping.execution:train_groups"
    """What trains a strategy with a grouping, as `module:function`; the engine of runs knows no planner."""
    steps: StepsRule = "equal_total"
    """equal_total: all groups together take training.steps, each in proportion to its tasks, so that a task gets as
    many samples as in one joint run; equal_per_group: each group takes training.steps, as the papers do."""
    share: float = Field(0.1, gt=0, le=1)
    """Share of the budget that every proxy run gets (GRIDS: a tenth)."""
    patches: int = Field(301, ge=3)
    """N: patches of each degradation that the proxy's features are taken on; 300 components need 301."""
    size: int = Field(128, ge=8)
    """Side of these patches in pixels; smaller where the images are."""
    query: int = Field(16, ge=3)
    """n: patches of an image that is to find its model."""

    @property
    def routes(self) -> bool:
        """True: an image finds its model by the proxy's features; False: its task must be known."""
        return False

    @property
    def needs_validation(self) -> bool:
        """True: `plan` asks for `probe.validation`, so every task needs validation images."""
        return False

    def check(self, tasks: Sequence[str]) -> None:
        """Raise UserError for what can be known to be wrong before anything is trained."""

    def plan(self, tasks: Sequence[str], probe: Probe) -> list[Group]:
        """The groups (may overlap; each task is served by exactly one)."""
        raise TypeError(f"{type(self).__name__} does not say how tasks are grouped")

    def matrix(self, tasks: Sequence[str], probe: Probe) -> Matrix:
        """The relation between tasks that `plan` decides from, for `cmtl-ir similarity`."""
        raise UserError(f"{self.called} measures nothing between tasks")

    def distances(self, references: Mapping[str, Features], query: Features) -> dict[str, float]:
        """How far an image's features are from each task's."""
        raise TypeError(f"{type(self).__name__} routes no images")

    def alternatives(self) -> dict[str, Grouping]:
        """Other routing rules whose accuracy the report gives beside: name -> this part under that rule."""
        return {}

    def route(self, distances: Mapping[str, float]) -> dict[str, float]:
        """Task -> weight of the model that serves it, of sum 1; here the nearest task alone."""
        nearest = min(sorted(distances), key=distances.__getitem__)
        return {task: float(task == nearest) for task in distances}


def ordered(groups: Sequence[Group], tasks: Sequence[str]) -> list[Group]:
    """The groups with their tasks, and themselves, in the order of the experiment file. Raises UserError for tasks
    that no group, or more than one, serves."""
    place = {task: i for i, task in enumerate(tasks)}
    served = [task for group in groups for task in group.serves]
    wrong = [task for task in tasks if served.count(task) != 1] + sorted(set(served) - set(tasks))
    wrong += [task for group in groups for task in group.serves if task not in group.tasks]
    if wrong:
        raise UserError(f"grouping: each task is served by one group that holds it; not so: {', '.join(wrong)}")
    kept = [
        Group(
            tuple(sorted(set(group.tasks), key=place.__getitem__)), tuple(sorted(group.serves, key=place.__getitem__))
        )
        for group in groups
        if group.serves
    ]
    return sorted(kept, key=lambda group: ([place[task] for task in group.serves], [place[t] for t in group.tasks]))


def shared_steps(groups: Sequence[Group], steps: int, rule: StepsRule) -> list[int]:
    """Steps of each group's run. `equal_total` cuts `steps` in proportion to the groups' tasks, exactly."""
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
    """Steps of a proxy run on some `tasks` of all `of`: its share of what such a group would be trained for."""
    part = tasks / of if grouping.steps == "equal_total" else 1.0
    return max(1, round(grouping.share * steps * part))
