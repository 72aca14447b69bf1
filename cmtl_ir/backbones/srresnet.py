"""SRResNet with MiOIR's prompts. Shapes: B images, C = 64 channels, T tasks, H x W pixels."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to

PROMPT_SIZE = 128
PROMPT_CHANNELS = 64
SMALLEST_PICTURE = 5  # the 7x7 convolution has a border of 1


class ResidualBlock(nn.Module):
    """x + conv relu conv x, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return x + self.conv2(F.relu(self.conv1(x)))


class PromptExtractor(nn.Sequential):
    """Three strided convolutions and a global mean, from an image of the task to one vector."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, PROMPT_CHANNELS, 7, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(PROMPT_CHANNELS, PROMPT_CHANNELS, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(PROMPT_CHANNELS, PROMPT_CHANNELS, 3, stride=2, padding=1),
            nn.ReLU(),
        )

    def forward(self, picture: Tensor) -> Tensor:  # [B, 1 or 3, h, w] -> [B, 64]
        return super().forward(picture).mean((2, 3))


class Modulation(nn.Module):
    """h -> (1 + scale) h + shift, where scale and shift depend on the prompt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Linear(PROMPT_CHANNELS, channels)
        self.shift = nn.Linear(PROMPT_CHANNELS, channels)

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:  # [B, C, H, W], [B, 64] -> [B, C, H, W]
        return x * (1 + self.scale(prompt)[:, :, None, None]) + self.shift(prompt)[:, :, None, None]


class SRResNet(nn.Module):
    """SRResNet (Ledig et al., CVPR 2017) at scale 1 with the prompts of MiOIR (Kong, Dong, Zhang, arXiv 2401.03379).

    Any H and W. `prompt: explicit` gives the network a fixed random image per task, chosen by `task` [B].
    `prompt: adaptive` gives it the degraded image instead. Both modulate every block's output, conv_hr and the
    predicted residual.

    Departures: the paper does not say where in a block the modulation acts (here: on its output), nor how the prompt's
    tensors are named. Counts agree with the authors' classes. `tasks` replaces their fixed number of seven.
    """

    couples_samples = False
    latent_module: ClassVar[str] = "conv_hr"
    unused: tuple[str, ...] = ()
    pictures: Tensor  # [T, 1, 128, 128]

    def __init__(
        self,
        *,
        width: int = 64,
        blocks: int = 16,
        prompt: Literal["none", "explicit", "adaptive"] = "none",
        tasks: int = 7,
    ) -> None:
        super().__init__()
        self.prompt = prompt
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)
        if prompt == "explicit":
            self.register_buffer("pictures", torch.rand(tasks, 1, PROMPT_SIZE, PROMPT_SIZE))
        if prompt != "none":
            self.extractor = PromptExtractor(1 if prompt == "explicit" else 3)
            self.modulations = nn.ModuleList(Modulation(width) for _ in range(blocks + 1))
            self.modulations.append(Modulation(3))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W], [B] -> [B, 3, H, W]
        vector = None if self.prompt == "none" else self.extractor(self._picture(x, task))
        h = F.leaky_relu(self.conv_first(x), 0.1)
        for number, block in enumerate(self.body):
            h = self._modulated(block(h), vector, number)
        h = F.leaky_relu(self._modulated(self.conv_hr(h), vector, len(self.body)), 0.1)
        return x + self._modulated(self.conv_last(h), vector, len(self.body) + 1)

    def _picture(self, x: Tensor, task: Tensor | None) -> Tensor:
        if self.prompt == "adaptive":
            return pad_to(x, 1, "replicate", smallest=SMALLEST_PICTURE)
        if task is None:
            raise ValueError(
                "SRResNet with an explicit prompt needs the task number of every image: call model(x, task)"
            )
        return self.pictures[task].to(x.dtype)

    def _modulated(self, h: Tensor, vector: Tensor | None, place: int) -> Tensor:
        return h if vector is None else self.modulations[place](h, vector)
