"""Rows scaled to the length of the longest, after a logarithm that balances the losses."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Cost, Surgery, Tier
from cmtl_ir.strategy.registry import register


@register
class DbMtl(Surgery):
    """DB-MTL (Lin et al., 2023, arXiv 2308.12029, Algorithm 1; as released in LibMTL `DB_MTL.py`).

    Rows are gradients of log losses, g / l, smoothed over steps and scaled to the largest length among them. Departure:
    the update is the mean times the loss of the longest row. This undoes the logarithm's 1 / l, so the learning rate
    keeps its meaning. As released, the running means start at 0, so at beta .9 the first update is a tenth as long.

    Adam divides by the spread of its input. Running means spread less, so Adam takes longer steps, in addition to its
    own momentum. If training becomes unstable, lower beta or the learning rate.
    """

    needs: ClassVar[Tier] = "rows"
    cost: ClassVar[Cost] = Cost(backward_passes="1, split by row", memory="3 [M, P]: rows twice, running means")

    beta: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Share of the past in the running mean at the first step; it falls as beta / t^sigma."""
    sigma: float = Field(default=0.0, ge=0.0)
    """Exponent of the decay of beta. 0 is constant smoothing (LibMTL's default)."""
    smallest_loss: float = Field(default=1e-8, gt=0.0)
    """Lower bound to which losses are clamped (the release adds it inside the logarithm)."""

    _losses: Tensor = PrivateAttr(default_factory=lambda: torch.ones(0))

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        """Return the weights v [M] of the mean. `combine` does the work, with the losses [M] of the same step."""
        self._losses = losses.clamp(min=self.smallest_loss)
        return torch.full((len(gramian),), 1.0 / len(gramian), dtype=torch.float64)

    def combine(self, rows: Tensor, weights: Tensor, context: StepContext) -> Tensor:
        self.state["steps"] = self.state.get("steps", 0) + 1
        share = self.beta / self.state["steps"] ** self.sigma
        smooth = [
            self._running_mean(name, row, share, loss)
            for name, row, loss in zip(context.rows, rows, self._losses.tolist(), strict=True)
        ]
        lengths = torch.stack([torch.linalg.vector_norm(h, dtype=torch.float64) for h in smooth]).cpu()  # ||h|| [M]
        longest = int(lengths.argmax())
        scale = torch.where(lengths > 0, lengths[longest] / lengths, 0.0) * self._losses[longest] * weights  # [M]
        return sum((a * h for a, h in zip(scale.tolist(), smooth, strict=True)), torch.zeros_like(rows[0]))

    def _running_mean(self, name: str, row: Tensor, share: float, loss: float) -> Tensor:
        """Return the running mean h [P] of a row, stored under its name.

        It starts at 0, and again at 0 when a stage trains another number of parameters.
        """
        means = self.state.setdefault("means", {})
        known = name in means and len(means[name]) == len(row)
        mean = means[name].to(row) if known else torch.zeros_like(row)
        means[name] = mean.mul_(share).add_(row, alpha=(1.0 - share) / loss)
        return means[name]
