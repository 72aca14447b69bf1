"""What the claims about weightings are tried on: methods times families of losses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.strategies.weighting.art import Art
from cmtl_ir.strategies.weighting.awl import Awl
from cmtl_ir.strategies.weighting.dtp import Dtp
from cmtl_ir.strategies.weighting.dwa import Dwa
from cmtl_ir.strategies.weighting.equal import Equal
from cmtl_ir.strategies.weighting.famo import Famo
from cmtl_ir.strategies.weighting.geometric import Geometric
from cmtl_ir.strategies.weighting.gradnorm import Gradnorm
from cmtl_ir.strategies.weighting.imtl_l import ImtlL
from cmtl_ir.strategies.weighting.manual import Manual
from cmtl_ir.strategies.weighting.proportional import Proportional
from cmtl_ir.strategies.weighting.rlw import Rlw
from cmtl_ir.strategies.weighting.stch import Stch
from cmtl_ir.strategies.weighting.tur import Tur
from cmtl_ir.strategies.weighting.uncertainty import Uncertainty
from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting

NAMES = ("haze", "rain", "snow", "review:noise")

METHODS: dict[str, Callable[..., Weighting]] = {
    "proportional": Proportional,
    "equal": Equal,
    "manual": lambda **f: Manual(by_task={"haze": 0.5, "noise": 3.0}, **f),
    "art": Art,
    "uncertainty": Uncertainty,
    "uncertainty-laplace": lambda **f: Uncertainty(form="laplace", **f),
    "imtl_l": ImtlL,
    "dwa": lambda **f: Dwa(window=2, **f),
    "rlw": Rlw,
    "geometric": Geometric,
    "stch": lambda **f: Stch(window=2, warmup=1, **f),
    "stch-sharp": lambda **f: Stch(window=2, warmup=1, mu=0.1, **f),
    "famo": Famo,
    "gradnorm": Gradnorm,
    "dtp": Dtp,
    "tur": Tur,
    "awl": Awl,
}
STATEFUL = sorted(set(METHODS) - {"proportional", "equal", "manual", "rlw", "geometric"})
SYMMETRIC = sorted(set(METHODS) - {"manual", "rlw"})
SCALE_FREE = sorted(set(METHODS) - {"art", "uncertainty", "uncertainty-laplace", "imtl_l", "dtp", "tur", "awl"})


def typical(step: int) -> list[float]:
    return [0.05 + 0.01 * (step % 3), 0.03 - 0.002 * step, 0.02 + 0.001 * step * step, 0.04]


LOSSES: dict[str, Callable[[int], list[float]]] = {
    "typical": typical,
    "equal": lambda step: [0.03] * 4,
    "zero": lambda step: [0.0] * 4,
    "one zero": lambda step: [0.0, 0.03, 0.02, 0.04],
    "becomes zero": lambda step: [0.0 if step > 4 else 0.05, 0.03, 0.02, 0.04],
    "tiny": lambda step: [1e-12 * loss for loss in typical(step)],
    "1e15": lambda step: [1e15 * loss for loss in typical(step)],
    "1e300": lambda step: [1e300 * loss for loss in typical(step)],
    "spread": lambda step: [1e-10, 1e-3, 1.0, 1e10],
    "jumping": lambda step: [1e200 if step % 2 else 0.0, 0.03, 0.02, 1e200 if step % 3 else 0.01],
    "at one": lambda step: [1.0, 0.999, 0.9999999, 0.03],
    "decibel": lambda step: [-20.0 - step, -30.0, -25.0, 1.0],
}


@dataclass
class Drive:
    """Leads a weighting through steps as the loop does."""

    part: Weighting
    seed: int = 3
    gradient_scale: float = 1.0
    after: float = 0.97
    seen: list[dict[str, float]] = field(default_factory=list)
    identity: Callable[[], Tensor] = lambda: torch.tensor(0.1, dtype=torch.float64)
    """Losses of the degraded images themselves."""

    def __post_init__(self) -> None:
        self.part.reset()

    def step(
        self, number: int, rows: Sequence[str], losses: Sequence[float], counts: Sequence[int] | None = None
    ) -> Tensor:
        """The scaled weights [K] of one step, with everything that follows it."""
        counts = counts or [3] * len(rows)
        values = torch.tensor(losses, dtype=torch.float64)
        again = torch.tensor([loss * self.after ** (1 + i) for i, loss in enumerate(sorted(losses))])
        again = again.double()[torch.tensor(losses).argsort().argsort()]  # depends on values, not on positions
        context = StepContext(number, "stage", tuple(rows), tuple(counts), self.seed, lambda: again, self.identity)
        weights = self.part.scaled(values, self.gramian(values), context)
        assert torch.equal(values, torch.tensor(losses, dtype=torch.float64)), "the losses were written into"
        self.part.after_step(context)
        self.seen.append(dict(zip(rows, weights.tolist(), strict=True)))
        return weights

    def gramian(self, losses: Tensor) -> Tensor | None:
        """Row gradients as long as the losses, at 60 degrees."""
        if self.part.needs == "losses":
            return None
        norms = self.gradient_scale * losses.abs().clamp(max=1e100)
        return norms[:, None] * norms * (0.5 + 0.5 * torch.eye(len(norms), dtype=torch.float64))


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, leaf) of a state tree; lists are walked too."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        yield path, tree
        return
    for key, value in items:
        yield from leaves(value, (*path, str(key)))


def snapshot(part: Weighting) -> dict[tuple[str, ...], Any]:
    """A copy of the state, flat."""
    return dict(leaves(copy.deepcopy(part.state_dict())))


def same(first: Any, second: Any) -> bool:
    """Bit-equal leaves."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    return type(first) is type(second) and first == second
