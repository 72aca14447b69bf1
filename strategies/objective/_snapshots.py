"""Earlier copies of the network in training as sources of negatives. Shapes: B samples, J copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, PositiveInt, PrivateAttr
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import Constants

from ..shared.copies import follow, frozen_copy
from ._contrast import Negatives


class SnapshotNegatives(Negatives):
    """A contrast with the outputs of earlier copies of the network."""

    renew: tuple[PositiveInt, ...] = Field((100, 200, 500, 1000), min_length=1)
    """Steps between the renewals of each copy: there is one copy per number."""
    keep: float = Field(0.1, ge=0, lt=1)
    """Share of its weights that a copy keeps at a renewal; the rest comes from the network."""
    fresh: float = Field(0.1, ge=0, le=1)
    """Share of new initial weights in a copy at its start; the rest comes from the network."""

    _networks: list[nn.Module] = PrivateAttr(default_factory=list)

    @property
    def needs(self) -> Any:  # type: ignore[override]
        """Where the negatives come from, and what the features need."""
        return super().needs | {self.source}

    @property
    def source(self) -> str:
        """What the engine must supply for the negatives."""
        return "snapshots"

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._networks = []

    def networks(self, learner: Learner) -> Sequence[nn.Module]:
        """Return the copies. They start at the first step in which the objective acts."""
        if not self._networks:
            states = self.state.setdefault("snapshots", {str(number): {} for number in range(len(self.renew))})
            starting = not any(states.values())
            self._networks = [frozen_copy(learner.model, states[str(number)]) for number in range(len(self.renew))]
            if starting and self.fresh > 0:
                for number, network in enumerate(self._networks):
                    follow(network, learner.fresh_network(number), 1 - self.fresh)
        return self._networks

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        self.networks(learner)  # also on a rank that holds no sample of the rows, so that all copies start together
        return super().prepare(batches, learner, context)

    def after_step(self, learner: Learner) -> None:
        super().after_step(learner)
        for steps, network in zip(self.renew, self._networks, strict=False):
            if (learner.step + 1) % steps == 0:
                follow(network, learner.model, self.keep)


def answers(networks: Sequence[nn.Module], batch: Batch, learner: Learner) -> Tensor:
    """Return the restored images of several networks for a batch, [B, J, 3, H, W]."""
    return torch.stack([learner.restore(batch, network).restored.float() for network in networks], 1)
