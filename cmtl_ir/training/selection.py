"""Weights chosen by validation scores: the best ones of a stage are handed over at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.base.trees import to_device


@dataclass
class Selection:
    """The best evaluation of the current stage."""

    best: float | None = None
    """Largest validation score. `None` before the first evaluation."""
    step: int = 0
    """Step of that evaluation."""
    waited: int = 0
    """Number of evaluations since then."""
    weights: dict[str, Tensor] | None = None
    """Evaluated weights of that step. `None` unless they are kept."""

    def offer(self, score: float, step: int, weights: Mapping[str, Tensor] | None) -> None:
        """Take the score of an evaluation into account. A copy of `weights` is kept if it is the best one so far."""
        if self.best is not None and not score > self.best:
            self.waited += 1
            return
        self.best, self.step, self.waited = score, step, 0
        self.weights = None if weights is None else {name: one.detach().clone() for name, one in weights.items()}

    def tree(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"best": self.best, "step": self.step, "waited": self.waited, "weights": self.weights}

    @classmethod
    def of(cls, tree: Mapping[str, Any] | None, device: torch.device) -> Selection:
        """Return the selection that `tree` saved. `None`: one that has seen nothing."""
        return cls() if tree is None else cls(**{**tree, "weights": to_device(tree["weights"], device)})
