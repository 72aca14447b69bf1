"""The loss of diffusion networks."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class Diffusion(Objective):
    """Distance of a diffusion network's prediction at a random time from its target (IR-SDE, Luo et al., ICML 2023).

    A base objective, for networks with a `training_pair`: ir_sde (`form: l1`, of the state one step earlier) and
    weather_diffusion (`form: squares`, of the noise of patches; Özdenizci and Legenstein, TPAMI 2023). Time, noise and
    places are keyed by row and sample. Nothing is sampled in training; evaluation restores by sampling.

    In a step, `Output.restored` is the degraded image: auxiliary objectives on the image do not fit. Parts that restore
    training samples outside of a step and ask for their loss are refused with UserError.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "pair"})

    form: Literal["l1", "squares"] = "l1"
    """l1: mean absolute difference; squares: sum of squared differences of a patch, averaged over the patches."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        if "predicted" not in output.features:
            raise UserError(f"{self.called}: a loss was asked for outside of a training step, where there is no pair")
        difference = output.features["predicted"].float() - output.features["wanted"].float()
        if self.form == "l1":
            return difference.abs().flatten(1).mean(1)
        patches = difference.flatten(2) if difference.dim() == 5 else difference.flatten(1)[:, None]  # [B, P, ...]
        return patches.square().sum(2).mean(1)
