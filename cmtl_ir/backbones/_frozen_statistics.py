"""BatchNorm whose statistics can be frozen, so that the samples of a batch do not couple."""

from __future__ import annotations

from typing import Self

from torch import nn


class BatchNormNetwork(nn.Module):
    """A network with BatchNorm: samples couple in training unless `frozen_statistics` is true.

    Frozen norms use their running statistics, which are zero mean and unit variance in a new network.
    """

    couples_samples = True

    def freeze_statistics(self, frozen: bool) -> None:
        """Set whether training mode leaves the statistics alone; call it at the end of the constructor."""
        self.frozen_statistics = frozen
        self.couples_samples = not frozen
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As nn.Module's; frozen statistics stay frozen."""
        super().train(mode)
        if getattr(self, "frozen_statistics", False):
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self
