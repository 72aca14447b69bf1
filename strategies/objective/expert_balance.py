"""Balance of a network's experts, so that its router does not send everything to one of them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class ExpertBalance(Objective):
    """Squared coefficient of variation of the experts' importance and load (MoCE-IR, Zamfir et al., CVPR 2025).

    For networks whose `forward_features` returns "importance" and "load", [B, D, E] at D places of E experts each:
    moce_ir and measnet. The coefficients of the two are averaged (`form: moce_ir`) or added (`form: measnet`), and
    averaged or added likewise over the places.

    Departure: per sample, so that row gradients exist. The authors sum or average over the batch first.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "own_features"})

    weight: float = Field(0.01, ge=0)
    """w: factor of this objective next to the base objective. MoCE-IR has 0.01, MEASNet 0.001."""
    form: Literal["moce_ir", "measnet"] = "moce_ir"
    """moce_ir: (std / (mean + 1e-8))^2, means over places; measnet: var / (mean^2 + 1e-10), sums over places."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        importance, load = (self._variation(output.features[name].float()) for name in ("importance", "load"))
        if self.form == "measnet":
            return (importance + load).sum(1)
        return (0.5 * (importance + load)).mean(1)

    def _variation(self, values: Tensor) -> Tensor:  # [B, D, E] -> [B, D]
        mean, variance = values.mean(2), values.var(2)
        if self.form == "measnet":
            return variance / (mean.square() + 1e-10)
        return variance / (mean + 1e-8).square()
