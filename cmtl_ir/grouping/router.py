"""Inference with a grouped run: its models, and the router that selects one for an image of unknown degradation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.problems import Problem
from cmtl_ir.grouping.features import image_patches, load_features, measured
from cmtl_ir.measures.tiling import restore_tiled
from cmtl_ir.runs.trained import load_model
from cmtl_ir.store.folder import has_weights, read_groups
from cmtl_ir.store.layout import GROUPS, PROBES
from cmtl_ir.strategy.grouping import Features, Grouping
from cmtl_ir.strategy.making import part_from


@dataclass(frozen=True)
class Routing:
    """The routing of one image."""

    nearest: str
    """Task with the nearest features, or the task that was given."""
    distance: float
    """Distance to that task. NaN if the task was given."""
    weights: dict[int, float]
    """Group -> weight of its model. Groups of weight 0 are left out."""
    unknown: bool
    """Whether the image is farther away than training images are. No group was made for such an image."""

    @property
    def group(self) -> int:
        """Group with the largest weight."""
        return max(sorted(self.weights), key=self.weights.__getitem__)


class Router:
    """Routing by the features of the frozen joint proxy."""

    def __init__(
        self, grouping: Grouping, proxy: nn.Module, references: Mapping[str, Features], side: int, device: torch.device
    ) -> None:
        self.grouping, self.proxy, self.references = grouping, proxy, references
        self.side, self.device = side, device

    def query(self, degraded: Tensor) -> Features:
        """Return the features of an image [1, 3, H, W] on its own patches."""
        patches, side = image_patches(degraded.to(self.device), self.grouping.query, self.side)
        return measured(self.proxy, patches, self.grouping.query, side, self.device)

    def distances(self, query: Features, rule: Grouping | None = None) -> dict[str, float]:
        """Return the distance to each task, under `rule`. `None` takes the grouping's own rule."""
        return (rule or self.grouping).distances(self.references, query)

    def threshold(self, images: Iterable[Tensor], quantile: float = 0.95) -> float:
        """Return the distance beyond which an image resembles no task, which is this quantile over training images."""
        nearest = [min(self.distances(self.query(image)).values()) for image in images]
        return float(torch.tensor(nearest, dtype=torch.float64).quantile(quantile))


class GroupedModel:
    """The models of a finished grouped run. Each is loaded when it is first needed."""

    def __init__(self, run: Path, device: torch.device) -> None:
        self.run, self.device = run, device
        self.plan: dict[str, Any] = read_groups(run)
        self.tasks: list[str] = self.plan["tasks"]
        self.groups: list[dict[str, Any]] = self.plan["groups"]
        self._models: dict[int, nn.Module] = {}

    @cached_property
    def grouping(self) -> Grouping:
        """The grouping of the run, which holds the routing rule."""
        problems: list[Problem] = []
        part = part_from("grouping", self.plan["grouping"], f"{self.run / GROUPS}: grouping", problems)
        if not isinstance(part, Grouping):
            raise UserError("; ".join(map(str, problems)))
        return part

    @cached_property
    def router(self) -> Router | None:
        """The router of the run. `None` if the task must be given."""
        if not self.blind:
            return None
        proxy = self._folder(self.plan["proxy"])
        model, _ = load_model(proxy, self.device)
        references = load_features(proxy / PROBES / self.plan["features"])
        return Router(self.grouping, model, {t: references[t] for t in self.tasks}, self.plan["side"], self.device)

    def _folder(self, run: str) -> Path:
        folder = self.run.parent / run
        if not has_weights(folder):
            raise UserError(f"{self.run} needs the run {run} next to it; run the experiment's command again")
        return folder

    @property
    def blind(self) -> bool:
        """Whether images are routed by their features. If false, the task must be given."""
        return self.plan["proxy"] is not None

    def model(self, group: int) -> nn.Module:
        """Return the trained network of a group."""
        if group not in self._models:
            self._models[group], _ = load_model(self._folder(self.groups[group]["run"]), self.device)
        return self._models[group]

    def serving(self, task: str) -> int:
        """Return the number of the group whose model restores the images of a task."""
        return next(number for number, group in enumerate(self.groups) if task in group["serves"])

    def told(self, task: str) -> Routing:
        """Return the routing of an image whose task is known. Raise UserError if the run has no such task."""
        if task not in self.tasks:
            raise UserError(f"--task {task!r}: this run knows {', '.join(self.tasks)}")
        return Routing(task, float("nan"), {self.serving(task): 1.0}, False)

    def routed(self, distances: Mapping[str, float]) -> Routing:
        """Return the routing for given distances to the tasks."""
        weights: dict[int, float] = {}
        for task, weight in self.grouping.route(distances).items():
            if weight > 0:
                weights[self.serving(task)] = weights.get(self.serving(task), 0.0) + weight
        nearest = min(sorted(distances), key=distances.__getitem__)
        limit = self.plan["threshold"]
        return Routing(nearest, distances[nearest], weights, limit is not None and distances[nearest] > limit)

    def find(self, degraded: Tensor) -> Routing:
        """Return the routing of an image [1, 3, H, W] of unknown degradation. Raise UserError if there is no router."""
        if self.router is None:
            raise UserError(f"{self.run} was made with routing: oracle; name the degradation with --task")
        return self.routed(self.router.distances(self.router.query(degraded)))

    def restored(self, degraded: Tensor, routing: Routing, tile: int) -> Tensor:
        """Return the weighted outputs of the models, [1, 3, H, W] in [0, 1]."""
        degraded = degraded.to(self.device, memory_format=torch.channels_last)
        total = torch.zeros_like(degraded)
        for group, weight in sorted(routing.weights.items()):
            tasks = self.groups[group]["tasks"]
            task = routing.nearest if routing.nearest in tasks else self.groups[group]["serves"][0]
            numbers = torch.full((1,), tasks.index(task), device=self.device)
            answer = restore_tiled(self.model(group), degraded, numbers, tile)
            total = answer if len(routing.weights) == 1 else total + weight * answer
        return total

    def words(self, routing: Routing) -> str:
        """Return the description of an image's routing, with a warning if its degradation is unknown."""
        group = ", ".join(self.groups[routing.group]["serves"])
        told = f"nearest: {routing.nearest} at distance {routing.distance:.3g}; model of {group}"
        if not routing.unknown:
            return told
        return (
            f"{told}. WARNING: beyond {self.plan['threshold']:.3g}, within which 95 % of training images lie: "
            "no group was made for this degradation"
        )
