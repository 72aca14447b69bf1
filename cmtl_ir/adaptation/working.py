"""A copy of a trained network whose weights may move, and how far they have."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WorkingCopy:
    """A copy of a network, in eval mode. The network itself is never changed."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval()
        self._start = [one.detach().clone() for one in self._tensors()]

    def _tensors(self) -> list[Tensor]:
        return [*self.network.parameters(), *self.network.buffers()]

    @torch.no_grad()
    def reset(self) -> None:
        """Set all weights and buffers back to their trained values, bit by bit, and drop gradients."""
        self.network.zero_grad(set_to_none=True)
        for now, trained in zip(self._tensors(), self._start, strict=True):
            now.copy_(trained)

    def intact(self) -> bool:
        """Return whether all weights and buffers are those of the trained network, bit by bit."""
        return all(torch.equal(now, trained) for now, trained in zip(self._tensors(), self._start, strict=True))

    @torch.no_grad()
    def drift(self) -> tuple[float, float]:
        """Return |w - w0| / |w0| over the parameters, and the share of them that differ from their trained values."""
        square = length = 0.0
        moved = count = 0
        for now, trained in zip(self.network.parameters(), self._start, strict=False):  # buffers come after them
            square += float((now - trained).float().square().sum())
            length += float(trained.float().square().sum())
            moved += int((now != trained).sum())
            count += now.numel()
        return (square / length) ** 0.5 if length > 0 else 0.0, moved / max(count, 1)
