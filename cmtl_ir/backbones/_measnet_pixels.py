"""MEASNet's experts per pixel (G). Shapes: B images, N pixels, C channels of a level, E experts, T task features."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.base import keyed

EXPERTS, CHOSEN = 6, 2
TASK_FEATURES, ENTRIES = 256, 32


def _pointwise(channels: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 1, bias=bias)


class TaskPrompt(nn.Module):
    """A mixture of dictionary rows, weighted by what the image is: [B, 3, H, W] -> [B, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.dictionary = nn.Parameter(torch.rand(ENTRIES, TASK_FEATURES))
        layers: list[nn.Module] = []
        for convolution in (nn.Conv2d(3, 64, 3, stride=3), nn.Conv2d(64, 64, 3, stride=3), _pointwise(64, 64)):
            layers += [convolution, nn.LeakyReLU(0.1)]
        self.CondNet = nn.Sequential(*layers, _pointwise(64, 64), nn.LeakyReLU(0.1), _pointwise(64, ENTRIES))
        self.lastOut = nn.Linear(ENTRIES, ENTRIES)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.lastOut(self.CondNet(x).mean((2, 3))).softmax(1)
        return F.gelu(F.linear(weights, self.dictionary.T))


class Routing(NamedTuple):
    """What one mixture needs for its balance loss: sums over the pixels of each sample."""

    importance: Tensor  # [B, E], gates
    load: Tensor  # [B, E], probabilities of being chosen


class PixelExpert(nn.Module):
    """A two-layer perceptron on the channels of a pixel."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:  # [B, N, C]
        return self.fc2(F.gelu(self.fc1(tokens)))


class PixelMixture(nn.Module):
    """Noisy top-2 routing (Shazeer et al., ICLR 2017); the outputs are averaged as exponentials."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, expansion: float, place: str) -> None:
        super().__init__()
        self.key = keyed.name_key("MEASNet", place)
        self.w_g = nn.Parameter(torch.zeros(2 * channels, EXPERTS))
        self.w_n = nn.Parameter(torch.zeros(2 * channels, EXPERTS))
        hidden = int(channels * expansion)
        self.el = nn.ModuleList(PixelExpert(channels, hidden) for _ in range(EXPERTS))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))

    def forward(self, tokens: Tensor, task: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the mixture [B, N, C] and the gates [B, N, E]; `keys` [B] draw the noise, `None` means no noise."""
        noisy = self._logits(tokens, task, keys)[1]
        gates = self._gates(noisy)
        outputs = torch.stack([expert(tokens) for expert in self.el], dim=2)  # [B, N, E, C]
        return (outputs + gates.log().to(outputs.dtype)[..., None]).logsumexp(2), gates

    def routing(self, tokens: Tensor, task: Tensor, keys: Tensor | None) -> Routing:
        """Return the two sums that the balance loss reads; no expert runs."""
        clean, noisy, std = self._logits(tokens, task, keys)
        gates = self._gates(noisy)
        top = noisy.topk(CHOSEN + 1, dim=2).values
        threshold = torch.where(gates > 0, top[..., CHOSEN:], top[..., CHOSEN - 1 : CHOSEN])
        margin = ((clean - threshold) / std).to(torch.promote_types(clean.dtype, torch.float32))
        return Routing(gates.sum(1), torch.special.ndtr(margin).sum(1))

    def _logits(self, tokens: Tensor, task: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Clean and noisy logits and the noise's standard deviation, [B, N, E] each."""
        both = torch.cat([tokens, task[:, None].expand_as(tokens)], dim=2)
        clean = F.linear(both, self.w_g.T)
        std = F.softplus(F.linear(both, self.w_n.T)) + 0.01
        if keys is None:
            return clean, clean, std
        drawn = torch.special.ndtri(keyed.uniform(keyed.mix(keys ^ self.key), clean.shape[1:]))
        return clean, clean + drawn.to(clean.dtype) * std, std

    @staticmethod
    def _gates(noisy: Tensor) -> Tensor:  # [B, N, E]: a softmax over the largest logits, 0 elsewhere
        top = noisy.topk(CHOSEN, dim=2)
        return torch.zeros_like(noisy).scatter(2, top.indices, top.values.softmax(2))


class TaskExperts(nn.Module):
    """Features plus the experts that each pixel and the task prompt choose."""

    def __init__(self, channels: int, expansion: float, place: str) -> None:
        super().__init__()
        self.fc = nn.Linear(TASK_FEATURES, channels)
        self.model = PixelMixture(channels, expansion, place)

    def forward(self, x: Tensor, task: Tensor, keys: Tensor | None) -> Tensor:  # [B, C, H, W], [B, T], [B]
        mixture, _ = self.model(x.flatten(2).mT, self.fc(task), keys)
        return x + mixture.mT.reshape(x.shape)

    def routing(self, x: Tensor, task: Tensor, keys: Tensor | None) -> Routing:
        return self.model.routing(x.flatten(2).mT, self.fc(task), keys)
