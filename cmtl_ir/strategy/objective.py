"""The contract of the losses of a sample: one base objective per run, and auxiliary objectives next to it.

Shapes: B samples of one row; an image is [B, 3, H, W].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, PrivateAttr, model_validator
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, Stage, StepContext
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost, Part
from cmtl_ir.strategy.registry import snake_case

NEEDS = frozenset(
    {
        "output",
        "pair",
        "latent",
        "own_features",
        "second_view",
        "others",
        "snapshots",
        "runs",
        "teacher:single",
        "prompt",
    }
)
"""What an objective may ask the engine for, see `Objective.needs`."""


@dataclass(frozen=True)
class Constants:
    """What `Objective.prepare` made for the samples of one row; constant during the step, without a graph."""

    row: str
    """Name of the row."""
    per_sample: Mapping[str, Tensor] = field(default_factory=dict)
    """Name -> [B, ...] over the row's samples; the engine cuts them as it cuts the samples."""
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    """Name -> a tensor that is handed over whole, such as a bank of keys."""

    def part(self, start: int, stop: int) -> Constants:
        """Return the constants of samples start .. stop."""
        return Constants(self.row, {name: one[start:stop] for name, one in self.per_sample.items()}, self.shared)


class Objective(Part):
    """A loss of each sample: the base objective of a run (`training.loss`) or an auxiliary one.

    The fields of this class are read under `auxiliary` only. A sample's loss is l_i + sum_a w_a(t) A_a(i).
    """

    model_config = ConfigDict(populate_by_name=True)
    family: ClassVar[str] = "objective"
    cost: ClassVar[Cost] = Cost(backward_passes="0")
    needs: ClassVar[frozenset[str]] = frozenset({"output"})
    """What the engine must supply; a property where it depends on fields. `output`: `Output.restored` · `pair`: the
    network's forward pass of a step gets the clean images as `target` and a key per sample as `keys` · `latent`:
    `Output.features["latent"]` · `own_features`: what the network's `forward_features` returns next to its images, in
    `Output.features` · `second_view`: `Learner.second_view` · `others`: `Learner.batch` of another task on the same
    images · `snapshots`: copies of the network that the part keeps · `runs`: finished runs, frozen ·
    `teacher:single`: `Learner.teacher` · `prompt`: `Learner.restore` under another task's name."""

    pair: ClassVar[str] = "training_pair"
    """Method of the networks that an objective with `pair` among its needs is made for."""

    weight: float = Field(1.0, ge=0)
    """w: factor of this objective next to the base objective; 0: it is not built."""
    rows: Literal["stage", "all"] = "stage"
    """stage: the rows that the curriculum trains; all: protecting and forgetting rows too."""
    stages: list[str] | None = None
    """Names of the stages in which it acts; null: in all."""
    begin: float = Field(0.0, ge=0, le=1, alias="from")
    """Share of each such stage after which it begins to act."""
    until: float = Field(1.0, ge=0, le=1)
    """Share of each such stage after which it no longer acts."""
    ramp: Literal["none", "sigmoid"] = "none"
    """none: w throughout; sigmoid: w exp(-5 (1 - p)^2), p in 0 .. 1 between `from` and `until`."""

    _label: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.begin < 1 and self.until <= self.begin:
            raise ValueError(f"until {self.until:g} is not after from {self.begin:g}")
        return self

    @property
    def label(self) -> str:
        """The name under which the run logs and stores it: its own, NAME_2 for the second of its kind."""
        return self._label or self.called

    def label_it(self, label: str) -> None:
        """Set the label."""
        self._label = label

    @property
    def acts(self) -> bool:
        """False if it never acts, so that it is not built."""
        return self.weight > 0 and self.begin < 1

    def acts_throughout(self, stage: str) -> bool:
        """Return whether it acts in every step of the stage of that name."""
        here = self.stages is None or stage in self.stages
        return self.weight > 0 and here and self.begin == 0 and self.until == 1

    def weight_at(self, stage: str, progress: float) -> float:
        """Return w(t) in the stage of that name, `progress` in 0 .. 1 of its steps; 0: it does not act."""
        if (self.stages is not None and stage not in self.stages) or not self.begin <= progress < self.until:
            return 0.0
        if self.ramp == "none":
            return self.weight
        share = (progress - self.begin) / (self.until - self.begin)
        return self.weight * math.exp(-5.0 * (1.0 - share) ** 2)

    # ------------------------------------------------------------------------------------- what a method overrides

    def named_runs(self) -> Sequence[str]:
        """Return the names of finished runs in the fields, so that a missing one is found before training."""
        return ()

    def backbone(self, fields: Mapping[str, Any], tasks: Sequence[str]) -> Mapping[str, Any]:
        """Return name and fields of the network to be trained: the run's backbone, or one made of it.

        An objective that needs the latent gets a network that returns it, with the objective's head if it has one.
        One that needs the network's own features gets a network that returns them.
        """
        if "own_features" in self.needs:
            fields = _with_own_features(fields)
        if "latent" not in self.needs:
            return fields
        headed: Mapping[str, Any] = fields
        if fields["name"] != "headed":
            headed = {"name": "headed", "of": dict(fields), "heads": {}, "tasks": list(tasks)}
        own = {"name": self.called, **self.model_dump(mode="json", exclude=set(SCHEDULE))}
        return {**headed, "heads": {**headed["heads"], self.label: own}}

    def head(self, channels: int, tasks: Sequence[str]) -> nn.Module | None:
        """Return a network on the latent of so many channels, whose output becomes `Output.features[self.label]`.

        `None`: the objective reads the latent itself. It is trained with the run and must not couple samples.
        """
        return None

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        """Return what is constant in this step, by row name.

        Called once per step without gradients, before the first backward pass, with the samples of every row that
        carries this objective, by row name. All randomness of the objective belongs here and is keyed.
        """
        return {}

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        """Return the loss of each sample, [B]; its gradient flows through that sample's own output alone.

        Terms on images read `output.restored`. As base objective it is called with the samples of several rows at
        once; `batch.task` is empty then.
        """
        raise TypeError(f"{type(self).__name__} does not define the loss of a sample")

    def after_step(self, learner: Learner) -> None:
        """Act after the optimizer's step, in those steps in which this objective acted (moving averages, banks)."""


SCHEDULE = tuple(Objective.model_fields)
"""Fields that are read under `auxiliary` only."""


def _with_own_features(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return name and fields of the network that returns its own features, inside of heads where there are some."""
    if fields["name"] == "headed":
        return {**fields, "of": _with_own_features(fields["of"])}
    return fields if fields["name"] == "featured" else {"name": "featured", "of": dict(fields)}


def pooled(latent: Tensor) -> Tensor:
    """Return the mean of a latent [B, C, h, w] or [B, N, C] over positions, [B, C]."""
    return latent.mean((2, 3)) if latent.dim() == 4 else latent.mean(1)


def labelled(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Give every objective a label of its own: its name, NAME_2 for the second of that name; return them."""
    counts: dict[str, int] = {}
    for one in objectives:
        name = snake_case(one.called.rpartition(":")[2])
        counts[name] = counts.get(name, 0) + 1
        one.label_it(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return tuple(objectives)


def sample_losses(objective: Objective, output: Output, batch: Batch) -> Tensor:
    """Return the base objective of each sample [B] in float32: its weighted sum over all images of the output.

    An image of another size than the clean one is compared with the clean image resized to it (bilinear without
    antialiasing, as the authors of FSNet, GridFormer and MIMO-UNet do).
    """
    nothing = Constants("")
    losses = []
    for image in map(Tensor.float, output.images):
        one = Output((image,), image, output.features)
        losses.append(objective.losses(one, resized(batch, image.shape[2:]), nothing))
    if output.weights is not None:
        losses = [weight * loss for weight, loss in zip(output.weights, losses, strict=True)]
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum(0)


def resized(batch: Batch, size: Sequence[int]) -> Batch:
    """Return the batch with its clean images resized to `size`, (height, width); itself where they have that size."""
    if batch.clean.shape[2:] == tuple(size):
        return batch
    return replace(batch, clean=F.interpolate(batch.clean, tuple(size), mode="bilinear"))


def active(objectives: Sequence[Objective], stage: Stage, stage_step: int) -> dict[str, float]:
    """Return label -> w(t) of the objectives that act in step `stage_step` (from 0) of the stage."""
    progress = stage_step / max(stage.steps, 1)
    weights = {one.label: one.weight_at(stage.name, progress) for one in objectives}
    return {label: weight for label, weight in weights.items() if weight > 0}
