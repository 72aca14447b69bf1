"""The loss of a network that completes hidden parts of pictures."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class MaskedAnswers(Objective):
    """Errors of two answers of which three quarters were hidden (PromptGIP, Liu et al., ICML 2024).

    A base objective, for promptgip: the mean squared error of the predicted patches over hidden pixels, plus the mean
    absolute errors of the answer of the example and of the restored image, both behind the head. Which tokens are
    hidden is keyed by row and sample.

    Departure: the learned example pairs of promptgip are trained by it, where the authors show pairs of images.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "pair"})
    pair: ClassVar[str] = "masked"

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        if "hidden" not in output.features:
            raise UserError(f"{self.called}: a loss was asked for outside of a training step, where nothing is hidden")
        answers, patches, truth, hidden = (
            output.features[name].float() for name in ("answers", "patches", "truth", "hidden")
        )  # [B, 2, 3, s, s]; hidden [B, 2, 1, s, s]
        squares = ((patches - truth).square().mean(2, keepdim=True) * hidden).flatten(1).sum(1)
        return squares / hidden.flatten(1).sum(1) + (answers - truth).abs().mean((2, 3, 4)).sum(1)
