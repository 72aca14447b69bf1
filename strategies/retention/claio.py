"""Distillation on a small memory of inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator
from torch import Tensor

from cmtl_ir.base.record import OmitIfDefault
from cmtl_ir.strategy.data import Batch, Learner, Row, Stage
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ..objective.distil_contrast import DistilContrast
from ..shared.features import Fixed
from ..shared.teacher import answer, network_of
from ._memory import Policy
from .distill import Distill


@register
class CLAIO(Distill):
    """Continual all-in-one restoration (De Cheng, TMM 2024): l(f(x), y) + alpha l(f(x_m), f_prev(x_m)).

    500 inputs are remembered, ceil(500 / t) of each task, without their targets. The contrastive term is optional:
    `contrast` adds it on remembered inputs, and the auxiliary objective `distil_contrast` on new ones. Without it, this
    is `distill` with the authors' memory. Here the memory takes a share of the batch instead of being added to it.

    Departure: the term on projected features is left out. Its autoencoder is fitted to the features of one network in a
    phase of its own, so it has no form that holds for every backbone.
    """

    capacity: int = Field(500, ge=1)
    """Number of inputs remembered, of all tasks together."""
    policy: Policy = "balanced_up"
    """The authors' policy, `balanced_up`, keeps ceil(capacity / tasks) of each task."""
    strength: float = Field(1.0, ge=0)
    """alpha: weight of the distillation term."""
    contrast: Annotated[float, OmitIfDefault()] = Field(0.0, ge=0)
    """Weight of `distil_contrast` between the previous network's answer and the input, relative to l; 0: none. The
    authors have 1, with features of `vgg19`."""
    features: Annotated[Fixed, OmitIfDefault()] = "haar"
    """Space of the contrast's distances: haar, random, vgg16 or vgg19."""
    file: Annotated[str | None, OmitIfDefault()] = None
    """File with torchvision's state dict of the VGG; null with the other spaces."""

    @model_validator(mode="after")
    def _features_and_file_fit(self) -> Self:
        self._term()
        return self

    def _term(self) -> DistilContrast:
        return DistilContrast(features=self.features, file=self.file)

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return the rows of `distill`, with the contrast in their loss if it has a weight."""
        rows = super().rows(stage, learner)
        if self.contrast == 0 or not rows:
            return rows
        network, term = network_of(learner, self.state["previous"]), self._term()

        def loss(output: Output, batch: Batch) -> Tensor:
            towards = replace(batch, clean=answer(learner, batch, network))
            contrast = term.losses(output, towards, Constants(batch.task))
            return learner.sample_losses(output, towards) + self.contrast * contrast

        return [replace(row, loss=loss) for row in rows]
