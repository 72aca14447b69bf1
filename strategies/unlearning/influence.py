"""One Newton step away from the forgotten tasks."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.gradients.gramian import CHUNK, gramian
from cmtl_ir.strategy.data import Learner
from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Unlearner
from cmtl_ir.unlearning.probe import probe_psnr, target_psnr

from ._weights import gradients, loss_of, weights_of, write

SMALLEST, LARGEST, HALVINGS = 1e-4, 100.0, 8


@register
class Influence(Unlearner):
    """Influence unlearning (Guo et al., ICML 2020; Izzo et al., AISTATS 2021, Eq. 1): one Newton step.

    w += alpha (F_r + delta I)^-1 (N_f / N) (g_f - g_r), F_r the Fisher of single retain samples, inverted by Woodbury's
    identity. The released WoodFisher recursion never updates its direction [code]. This is the direct solve. It needs
    retain data.
    """

    alpha: float | None = Field(None, gt=0)
    """Step size; null: found by bisection to the target (retrained model's forget PSNR, otherwise the identity's)."""
    damping: float = Field(0.1, gt=0)
    """delta as a share of the mean squared gradient norm."""
    samples: int = Field(200, ge=2)
    """Number of single-sample retain gradients of F_r, in equal parts. The mean gradients use the same number of
    samples each."""

    def wants_target(self) -> bool:
        return self.alpha is None

    def edit(self, learner: Learner) -> None:
        """Take one Newton step."""
        loss, (forget, retain) = loss_of(learner), (self.request.forget, self.request.retain)
        rows = torch.stack(list(gradients(learner, retain, self.samples, loss)))  # [n, P]
        uphill = torch.stack(list(gradients(learner, forget, self.samples, loss))).mean(0)
        share = len(forget) / (len(forget) + len(retain))
        direction = share * solve(rows, uphill - rows.mean(0), self.damping)
        start = weights_of(learner.model).detach()
        alpha = self.alpha or self._bisect(learner, start, direction)
        write(learner.model, start + alpha * direction)
        self.state["alpha"] = alpha

    def _bisect(self, learner: Learner, start: Tensor, direction: Tensor) -> float:
        """Return the step at which the probe's PSNR falls to the target, or the largest tried if it never does."""
        target, low = target_psnr(learner, self.request), 0.0

        def forgotten(alpha: float) -> bool:
            write(learner.model, start + alpha * direction)
            return probe_psnr(learner, self.request.forget) <= target

        high = SMALLEST
        while not forgotten(high) and high < LARGEST:
            low, high = high, 2.0 * high
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if forgotten(middle) else (middle, high)
        return high


def solve(rows: Tensor, vector: Tensor, damping: float) -> Tensor:
    """Return (F + delta I)^-1 v [P] with F = rows^T rows / n, delta = damping * mean squared norm.

    rows [n, P], v [P]. By Woodbury's identity it is (v - R^T (n delta I + R R^T)^-1 R v) / delta, which needs n x n
    instead of P x P, in float64.
    """
    gram, n = gramian(rows), len(rows)  # [n, n] float64, on the CPU
    delta = damping * float(gram.diagonal().mean().clamp_min(1e-30))
    pieces = list(zip(rows.split(CHUNK, dim=1), vector.split(CHUNK), strict=True))
    products = torch.stack([(some.double() @ part.double()).cpu() for some, part in pieces]).sum(0)  # R v [n]
    inner = torch.linalg.solve(gram + n * delta * torch.eye(n, dtype=gram.dtype), products).to(rows.device)
    return torch.cat([((part - some.double().T @ inner) / delta).to(rows) for some, part in pieces])
