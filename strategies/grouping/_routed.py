"""Routing shared by all groupings: how an image of unknown degradation finds its model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.grouping import Features, Grouping

from ._representation import Kind, channel_distances, refitted_distances


class RoutedGrouping(Grouping):
    """A grouping whose images find their model by features of the joint proxy."""

    routing: Literal["grids", "statistics", "oracle", "soft"] = "grids"
    """grids: nearest generalised Gaussian, refitted at the image's number of patches; statistics: nearest mean and
    standard deviation of the channels; oracle: the task is given (a control); soft: every model runs, weighted by
    softmax of -distance / temperature under `statistics` (a control)."""
    components: int = Field(300, ge=1)
    """Number of principal components of a degradation's features."""
    features: Kind = "pooled"
    """pooled: all coefficients in one sample, two numbers per degradation, as published; per_dimension: one fit per
    component [ours]."""
    subsets: int = Field(20, ge=1)
    """Number of choices of patches over which a degradation is refitted at the image's number of patches."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of soft routing. A small value is nearly the nearest task alone."""

    @property
    def routes(self) -> bool:
        """True unless the task must be given."""
        return self.routing != "oracle"

    def distances(self, references: Mapping[str, Features], query: Features) -> dict[str, float]:
        """Return an image's distance from each task under the routing rule."""
        if self.routing == "grids":
            return refitted_distances(references, query, self.components, self.subsets, self.features)
        return channel_distances(references, query)

    def route(self, distances: Mapping[str, float]) -> dict[str, float]:
        """Return the weight of each task's model: the nearest alone or, under `soft`, all of them."""
        if self.routing != "soft":
            return super().route(distances)
        nearest = min(distances.values())
        weights = {task: math.exp((nearest - far) / self.temperature) for task, far in distances.items()}
        total = sum(weights.values())
        return {task: weight / total for task, weight in weights.items()}

    def alternatives(self) -> dict[str, Grouping]:
        """Return both routing rules that need no oracle, or none under `oracle`."""
        if not self.routes:
            return {}
        return {rule: self.model_copy(update={"routing": rule}) for rule in ("grids", "statistics")}


def refuse_count(groups: int | None, tasks: Sequence[str]) -> None:
    """Raise UserError if there are more groups than tasks."""
    if groups is not None and groups > len(tasks):
        raise UserError(f"grouping.groups: {groups} groups of {len(tasks)} tasks; give at most {len(tasks)}")
