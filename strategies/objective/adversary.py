"""The loss of a network that is trained against its own discriminator."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class Adversary(Objective):
    """Restoration error and least-squares adversarial losses (BIDeN, Han et al., ECCV 2022).

    A base objective, for biden with `discriminator: true`, on images in [-1, 1]: `restoration` L1 + (D(y) - 1)^2 for
    the network, and (D(y)^2 + (D(clean) - 1)^2) / 2 + BCE(source, task) for the discriminator. Each term has a gradient
    for its own part alone. The authors add `perceptual` on VGG19 with weight 10.

    Departures: network and discriminator take their steps at the same time and by one optimizer; the authors alternate.
    The gradient of a row includes the discriminator's.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "pair"})
    pair: ClassVar[str] = "judged"

    restoration: float = Field(30.0, ge=0)
    """Weight of the mean absolute error, in units of [-1, 1]."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        if "judged" not in output.features:
            raise UserError(f"{self.called}: a loss was asked for outside of a training step, where nothing is judged")
        judged, fake, real, sources, present = (
            output.features[name].float() for name in ("judged", "fake", "real", "sources", "present")
        )
        error = 2 * (output.restored.float() - batch.clean).abs().mean((1, 2, 3))
        of_network = (judged - 1).square().flatten(1).mean(1)
        of_discriminator = 0.5 * (fake.square() + (real - 1).square()).flatten(1).mean(1)
        of_sources = F.binary_cross_entropy_with_logits(sources, present, reduction="none").mean(1)
        return self.restoration * error + of_network + of_discriminator + of_sources
