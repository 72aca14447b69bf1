"""Training on noisy images whose targets are other noisy images of the same scene."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import UNLABELLED, Batch, History, Learner, Stage
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ._unlabelled import KIND, Unlabelled


@register
class Noise2noise(Unlabelled):
    """Noise2Noise (Lehtinen et al., ICML 2018) on unlabelled images: the target is a second draw of the same noise.

    Rows `unlabelled:TASK` have the loss |f(y) - y'|^2 / P, where y' is the same crop with the same strength of noise,
    drawn once more by (task, id). Its mean is the squared error against the clean image plus the variance of the noise,
    for noise of mean zero. Clipping to [0, 1] changes the mean of dark and bright pixels, and the network learns that.
    With `share: 0` or `weight: 0` it is joint training on the labelled images.

    A second picture of the scene stands in for that of a camera: it is drawn from a clean image that the method never
    sees. The folders of `data.unlabelled` have none.
    """

    meant_for: ClassVar[str] = "adds noise of mean zero and nothing else"

    norm: Literal["squared", "absolute"] = "squared"
    """squared: learns the mean of the clean images that are possible; absolute: their median under the noise."""

    def unfit(self, task: str, learner: Learner) -> str:
        known = learner.degradation(task)
        if known is None:
            return "has degraded images from files, of which there is no second picture"
        return "" if known.noise else f"has the degradation {known.called}, which is not noise of mean zero"

    def next_stage(self, history: History) -> Stage | None:
        """Return one stage with the whole budget. Raise ConfigError for images without a second draw."""
        stage, learner = super().next_stage(history), history.learner
        for row in stage.mixture if stage is not None else ():
            kind, _, task = row.partition(":")
            if kind == KIND:
                batch = learner.batch(task, torch.zeros(1, dtype=torch.int64), UNLABELLED)
                try:
                    learner.degrade_again(batch, images=UNLABELLED)
                except ValueError as error:
                    raise ConfigError(f"curriculum {self.called}: {error}") from error
        return stage

    def without_truth(self, task: str, learner: Learner) -> dict[str, Any]:
        def loss(output: Output, batch: Batch) -> Tensor:
            error = output.restored.float() - learner.degrade_again(batch, images=UNLABELLED)
            return (error.square() if self.norm == "squared" else error.abs()).mean((1, 2, 3))

        return {"loss": loss}
