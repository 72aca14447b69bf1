"""The law of data mixtures: its fit, and the mixture of the smallest predicted loss. Shapes: n mixtures of K tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CONSTANTS = 60  # values of c that are tried before the fit is refined
REFINED = 50
MOVES = 10_000


@dataclass(frozen=True)
class Law:
    """L(r) = c + exp(sum_j t_j r_j). The factor b of the paper is part of t, because the shares sum to 1."""

    c: float
    t: Tensor
    """[K] float64."""

    def __call__(self, mixtures: Tensor) -> Tensor:
        """Return the losses [n] of mixtures [n, K]."""
        return self.c + (mixtures @ self.t).exp()

    def gradient(self, mixture: Tensor) -> Tensor:
        """Return the derivative [K] by the shares of one mixture [K]."""
        return (mixture @ self.t).exp() * self.t


def probed(count: int, reach: float) -> Tensor:
    """Return the 2 K + 1 mixtures that are tried, [2 K + 1, K] float64.

    They are the equal shares u, and u + d (e_k - u) for each task k and d = reach / 2 and reach. Their hull is what
    `reach` alone spans.
    """
    centre = torch.full((1, count), 1.0 / count, dtype=torch.float64)
    towards = torch.eye(count, dtype=torch.float64) - centre
    return torch.cat([centre, centre + reach / 2 * towards, centre + reach * towards])


def fitted(mixtures: Tensor, losses: Tensor) -> Law:
    """Return the law of least squares for losses [n] > 0 of mixtures [n, K].

    For a given c, log(L - c) is linear in t. The best c of a grid begins a Gauss-Newton iteration on both.
    """
    least = float(losses.min())
    constants = least * (1 - torch.logspace(0, -6, CONSTANTS, dtype=torch.float64))
    above = losses - constants[:, None]  # [CONSTANTS, n]
    wanted = (above * above.log())[..., None]
    solutions = torch.linalg.lstsq(above[..., None] * mixtures, wanted, driver="gelsd").solution.squeeze(-1)
    laws = [Law(c, t) for c, t in zip(constants.tolist(), solutions, strict=True)]
    law = min(laws, key=lambda one: _error(one, mixtures, losses))
    for _ in range(REFINED):
        law, moved = _refined(law, mixtures, losses)
        if not moved:
            break
    return law


def _refined(law: Law, mixtures: Tensor, losses: Tensor) -> tuple[Law, bool]:
    """Return a law with a smaller error, and whether there is one."""
    before, predicted = _error(law, mixtures, losses), law(mixtures)
    jacobian = torch.cat([torch.ones_like(predicted)[:, None], (predicted - law.c)[:, None] * mixtures], 1)
    step = torch.linalg.lstsq(jacobian, losses - predicted, driver="gelsd").solution
    for _ in range(30):
        other = Law(law.c + float(step[0]), law.t + step[1:])
        if other.c >= 0 and _error(other, mixtures, losses) < before:
            return other, True
        step = step / 2
    return law, False


def _error(law: Law, mixtures: Tensor, losses: Tensor) -> float:
    return float((law(mixtures) - losses).square().sum())


def left_out(mixtures: Tensor, losses: Tensor) -> float:
    """Return the mean relative error of the loss [n] of each mixture under the law of the others."""
    errors = []
    for place in range(len(losses)):
        rest = torch.arange(len(losses)) != place
        predicted = fitted(mixtures[rest], losses[rest])(mixtures[place : place + 1])[0]
        errors.append(float((predicted - losses[place]).abs() / losses[place]))
    return sum(errors) / len(errors)


def best_mixture(laws: Sequence[Law], references: Sequence[float], reach: float) -> Tensor:
    """Return the mixture [K] of the smallest sum of L_k / reference_k within the hull of the probed ones.

    The sum is convex. In each step, share moves from the task of the largest derivative to that of the smallest, as far
    as the sum falls (pairwise Frank-Wolfe; Lacoste-Julien and Jaggi, NeurIPS 2015).
    """
    count = len(laws)
    centre = torch.full((count,), 1.0 / count, dtype=torch.float64)
    shares = centre.clone()  # of the corners of the hull

    def slope(at: Tensor) -> Tensor:
        mixture = centre + reach * (at - centre)
        each = [law.gradient(mixture) / reference for law, reference in zip(laws, references, strict=True)]
        return torch.stack(each).sum(0)

    for _ in range(MOVES):
        now = slope(shares)
        best, worst = int(now.argmin()), int(torch.where(shares > 0, now, -torch.inf).argmax())
        if float(now[worst] - now[best]) <= 1e-13 * float(now.abs().max()):
            break
        direction = torch.zeros_like(shares)
        direction[best], direction[worst] = 1.0, -1.0
        shares = (shares + _length(slope, shares, direction, float(shares[worst])) * direction).clamp(min=0)
    mixture = centre + reach * (shares - centre)
    return mixture / mixture.sum()


def _length(slope: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor, most: float) -> float:
    """Return where the derivative along a direction becomes 0, between 0 and `most`, by bisection."""
    low, high = 0.0, most
    if float(slope(at + high * direction) @ direction) <= 0:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(slope(at + middle * direction) @ direction) <= 0 else (low, middle)
    return low
