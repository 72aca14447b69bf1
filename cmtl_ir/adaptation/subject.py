"""The network that is adapted: of a run, of a checkpoint, or the one of a grouped run that an image is sent to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cmtl_ir.adaptation.origin import Origin
from cmtl_ir.base.errors import UserError
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.strategy.output import final_output

HEAD = "degradation_class"
"""Label of the head that classifies the degradation."""


@dataclass(frozen=True)
class Choice:
    """The network that restores an image, and the number of the image's task in it."""

    key: int
    network: nn.Module
    number: int


class Subject(Protocol):
    """What images are restored by."""

    origin: Origin
    tile: int
    device: torch.device

    def choose(self, degraded: Tensor, task: str | None) -> Choice:
        """Return what restores an image [1, 3, H, W] without adaptation; `task`: its task, `None` if not given."""

    def as_task(self, network: nn.Module, task: str) -> tuple[nn.Module, int]:
        """Return the network that serves a task, and the task's number in it. `network`: the one that is adapted."""

    def classify(self, network: nn.Module, degraded: Tensor, number: int) -> Mapping[str, float] | None:
        """Return task -> probability; `None` without a classifier."""


class OneNetwork:
    """A run of one model, or a checkpoint. `first` is the number of the task where none is given."""

    def __init__(
        self, model: nn.Module, known: Sequence[str], origin: Origin, tile: int, device: torch.device, first: int = 0
    ) -> None:
        self.model, self.known, self.first = model, list(known), first
        self.origin, self.tile, self.device = origin, tile, device

    def choose(self, degraded: Tensor, task: str | None) -> Choice:
        return Choice(0, self.model, self.first if task is None else self._number(task))

    def as_task(self, network: nn.Module, task: str) -> tuple[nn.Module, int]:
        return network, self._number(task)

    @torch.no_grad()
    def reads_number(self) -> bool:
        """Return whether the answer depends on the task number, so that the network is told each image's task."""
        grey = torch.full((1, 3, 64, 64), 0.5, device=self.device)
        numbers = (torch.full((1,), number, device=self.device) for number in (0, 1))
        return len(self.known) > 1 and not torch.equal(
            *(final_output(self.model, self.model(grey, n)) for n in numbers)
        )

    @torch.no_grad()
    def classify(self, network: nn.Module, degraded: Tensor, number: int) -> Mapping[str, float] | None:
        headed: Any = network
        if HEAD not in getattr(network, "auxiliary", {}) or not hasattr(network, "returns_features"):
            return None
        numbers = torch.full((len(degraded),), number, device=self.device)
        headed.returns_features = True
        try:
            _, features = headed(_centre(degraded, self.tile).to(memory_format=torch.channels_last), numbers)
        finally:
            headed.returns_features = False
        return dict(zip(self.known, features[HEAD][0].float().softmax(0).tolist(), strict=True))

    def _number(self, task: str) -> int:
        if task not in self.known:
            raise UserError(f"no task {task!r}: the network knows {', '.join(self.known) or 'none by name'}")
        return self.known.index(task)


class Grouped:
    """A grouped run: each image is adapted on the network that it is sent to."""

    def __init__(self, model: GroupedModel, origin: Origin, tile: int, device: torch.device, told: bool) -> None:
        """`told`: a given task decides the group; otherwise the router does where there is one."""
        self.model, self.told = model, told
        self.origin, self.tile, self.device = origin, tile, device

    def choose(self, degraded: Tensor, task: str | None) -> Choice:
        given = task is not None and (self.told or not self.model.blind)
        routing = self.model.told(str(task)) if given else self.model.find(degraded)
        if len(routing.weights) > 1:
            raise UserError(
                "--adapt needs one network per image, and this run's routing mixes several; name the degradation with "
                "--task, or group with a routing that picks one"
            )
        tasks = self.model.groups[routing.group]["tasks"]
        name = routing.nearest if routing.nearest in tasks else self.model.groups[routing.group]["serves"][0]
        return Choice(routing.group, self.model.model(routing.group), tasks.index(name))

    def as_task(self, network: nn.Module, task: str) -> tuple[nn.Module, int]:
        group = self.model.told(task).group
        tasks = self.model.groups[group]["tasks"]
        return self.model.model(group), tasks.index(task) if task in tasks else 0

    def classify(self, network: nn.Module, degraded: Tensor, number: int) -> Mapping[str, float] | None:
        """Return probabilities in proportion to 1 / distance^2; all 0 for an image that resembles no task."""
        if self.model.router is None:
            return None
        distances = self.model.router.distances(self.model.router.query(degraded))
        if self.model.routed(distances).unknown:
            return dict.fromkeys(distances, 0.0)
        inverse = {task: 1.0 / max(distance, 1e-12) ** 2 for task, distance in distances.items()}
        total = sum(inverse.values())  # 0 where every distance is infinite
        return {task: value / total if total > 0 else 0.0 for task, value in inverse.items()}


def _centre(image: Tensor, side: int) -> Tensor:
    height, width = image.shape[2:]
    high, wide = min(height, side), min(width, side)
    top, left = (height - high) // 2, (width - wide) // 2
    return image[:, :, top : top + high, left : left + wide]
