"""Feature spaces that follow the network in training: its latent, or its encoder of the degradation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Learner

from ..copies import follow, frozen_copy
from . import Space

DECAY = 0.999
"""Share of a copy's weights that is kept in each step."""


class Learned:
    """A space made of a moving average of the network or of its encoder. Its weights are stored in `state`.

    It moves during training, so distances of two runs, or of two steps far from each other, cannot be compared.
    """

    def __init__(self, name: Literal["backbone", "encoder"], learner: Learner, state: dict[str, Any]) -> None:
        """Raise ConfigError if the backbone names no encoder."""
        self.name, self.tasks = name, learner.tasks
        self.copy: Any = frozen_copy(self._source(learner), state)
        self.copy.returns_features = True

    def _source(self, learner: Learner) -> nn.Module:
        if self.name == "backbone":
            return learner.model
        module = getattr(learner.model, "encoder_module", None)
        if module is None:
            raise ConfigError(
                "features: encoder needs a backbone that names its encoder of the degradation in `encoder_module`, as "
                "airnet does; use features: haar, or backbone"
            )
        return learner.model.get_submodule(module)

    def space(self) -> Space:
        """Return the space of one map."""
        return Space((1.0,), self._maps)

    def follow(self, learner: Learner) -> None:
        """Move the copy towards the present weights."""
        follow(self.copy, self._source(learner), DECAY)

    def _maps(self, images: Tensor, task: str) -> list[Tensor]:
        with torch.autocast(images.device.type, enabled=False):
            if self.name == "encoder":
                return [self.copy(images.float())]
            numbers = torch.full((len(images),), self.tasks.index(task), device=images.device)
            _, features = self.copy(images.float().contiguous(memory_format=torch.channels_last), numbers)
        return [features["latent"].float()]
