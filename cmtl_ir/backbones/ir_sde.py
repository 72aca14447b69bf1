"""IR-SDE with DA-CLIP's U-Net. Shapes: B images, C channels of a level, H x W pixels, n the width, V of a vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._conditional_attention import LinearAttention, SpatialTransformer
from cmtl_ir.backbones._gain import GainNorm, time_embedding
from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones._mean_reverting import MeanRevertingNet, Sampler
from cmtl_ir.base import keyed

DEGRADATIONS = keyed.name_key("degradation vectors of IR-SDE")
MULTIPLE = 16


class Convolved(nn.Module):
    """A 3x3 convolution without bias under the authors' name, `proj`."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class ResidualBlock(nn.Module):
    """Rs: two convolutions around a skip, the first scaled and shifted by the time."""

    def __init__(self, channels: int, outputs: int, time: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * outputs))
        self.block1 = Convolved(channels, outputs)
        self.block2 = Convolved(outputs, outputs)
        if channels != outputs:
            self.res_conv = nn.Conv2d(channels, outputs, 1, bias=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:  # [B, C, H, W], [B, 4n]
        scale, shift = self.mlp(time)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.block1(x) * (scale + 1) + shift)
        h = F.silu(self.block2(h))
        return h + (self.res_conv(x) if hasattr(self, "res_conv") else x)


class Normed(nn.Module):
    """An attention on normalised features under the authors' name, `fn`."""

    def __init__(self, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm = GainNorm(channels)
        self.fn = attention

    def forward(self, x: Tensor, content: Tensor | None) -> Tensor:
        return self.fn(self.norm(x), content)


class Attended(nn.Module):
    """x + attention to normalised x. `vector`: the length of the content vector, 0 for linear attention."""

    def __init__(self, channels: int, vector: int) -> None:
        super().__init__()
        self.fn = Normed(channels, SpatialTransformer(channels, vector) if vector else LinearAttention(channels))

    def forward(self, x: Tensor, content: Tensor | None) -> Tensor:
        return x + self.fn(x, content)


def _conv(channels: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 3, padding=1, bias=False)


def _doubled(channels: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(channels, outputs, 3, padding=1))


class IRSDE(MeanRevertingNet):
    """Controlling Vision-Language Models for Universal Image Restoration (DA-CLIP; Luo et al., ICLR 2024).

    IR-SDE (ICML 2023) with DA-CLIP's U-Net: a mean-reverting diffusion from the degraded image plus noise to the clean
    one. `forward` samples in `steps` steps, in training as in eval, by the posterior, by the reverse SDE or by the
    probability flow (`sampler: ode`, which draws noise for the start alone). The noise is keyed by the content of each
    image. `training_pair` gives the two states whose L1 distance is the training loss.
    Any H and W: reflected right and bottom up to a multiple of 16 inside the U-Net.

    `degradation` [B, V] replaces a fixed vector drawn by the number of the `task` [B], or zeros without `task`; the
    U-Net's own layers learn what to make of it. `content_vector: true` gives the deepest level attention to a second
    vector, `content` [B, V], zeros where it is not given. DA-CLIP makes both with its controlled CLIP, which is not
    part of this class. Weights of the authors: MIT.

    Departures: their norms take an epsilon of 1e-3 under every type but float32; it is 1e-5 here always.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "mid_block2"

    def __init__(
        self,
        *,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 4, 8),
        vector: int = 512,
        degradation_vector: bool = True,
        content_vector: bool = False,
        steps: int = 100,
        sampler: Sampler = "posterior",
    ) -> None:
        super().__init__(steps, sampler)
        self.width, self.vector, self.content_vector = width, vector, content_vector
        time = 4 * width
        widths = [width, *(width * one for one in multipliers)]
        pairs = list(pairwise(widths))
        last, vectors = len(pairs) - 1, vector if content_vector else 0
        self.init_conv = nn.Conv2d(6, width, 7, padding=3, bias=False)
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(width, time), nn.GELU(), nn.Linear(time, time))
        if degradation_vector:
            self.prompt = nn.Parameter(torch.rand(1, time))
            self.text_mlp = nn.Sequential(nn.Linear(vector, time), nn.SiLU(), nn.Linear(time, time))
            self.prompt_mlp = nn.Linear(time, time)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for i, (inner, outer) in enumerate(pairs):
            blocks = [ResidualBlock(inner, inner, time), ResidualBlock(inner, inner, time)]
            attended = Attended(inner, vectors if i == last else 0)
            down = _conv(inner, outer) if i == last else nn.Conv2d(inner, outer, 4, stride=2, padding=1)
            self.downs.append(nn.ModuleList([*blocks, attended, down]))
            blocks = [ResidualBlock(inner + outer, outer, time), ResidualBlock(inner + outer, outer, time)]
            attended = Attended(outer, vectors if i == last else 0)
            up = _doubled(outer, inner) if i else _conv(outer, inner)
            self.ups.insert(0, nn.ModuleList([*blocks, attended, up]))
        self.mid_block1 = ResidualBlock(widths[-1], widths[-1], time)
        self.mid_attn = Attended(widths[-1], vectors)
        self.mid_block2 = ResidualBlock(widths[-1], widths[-1], time)
        self.final_res_block = ResidualBlock(2 * width, width, time)
        self.final_conv = nn.Conv2d(width, 3, 3, padding=1)
        self.unused = ("*.attn2.to_q.weight", "*.attn2.to_k.weight", "*.norm2.*") if content_vector else ()

    def forward(
        self,
        x: Tensor,
        task: Tensor | None = None,
        degradation: Tensor | None = None,
        content: Tensor | None = None,
        target: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Restore [B, 3, H, W] by sampling.

        With the clean images as `target` [B, 3, H, W], and `keys` [B], return x and the `training_pair` as "predicted"
        and "wanted" instead.
        """
        degradation = self.of_task(x, task) if degradation is None else degradation
        if target is None:
            return self.restored(x, degradation, content)
        predicted, wanted = self.training_pair(x, target, degradation, content, keys=keys)
        return x, {"predicted": predicted, "wanted": wanted}

    def of_task(self, x: Tensor, task: Tensor | None) -> Tensor:  # [B] -> [B, V]
        """The fixed standard normal degradation vector of every task; `None` gives zeros."""
        if task is None:
            return x.new_zeros(len(x), self.vector)
        return keyed.normal(keyed.keys_of(DEGRADATIONS, task), (self.vector,)).to(x.dtype)

    def noise(self, state: Tensor, mu: Tensor, t: Tensor, *conditions: Tensor | None) -> Tensor:
        """The noise in x_t; `conditions` are the degradation vector and the content vector [B, V]."""
        degradation, content = conditions
        height, width = state.shape[-2:]
        if self.content_vector and content is None:
            content = mu.new_zeros(len(mu), self.vector)
        time = self._time(t, degradation)
        first = self.init_conv(pad_to(torch.cat([state - mu, mu], dim=1), MULTIPLE, "reflect"))
        h = self._through(first, time, content)
        h = self.final_res_block(torch.cat([h, first], dim=1), time)
        return self.final_conv(h)[:, :, :height, :width]

    def _time(self, t: Tensor, degradation: Tensor | None) -> Tensor:  # [B], [B, V] -> [B, 4n]
        time = self.time_mlp(time_embedding(t, self.width))
        if degradation is None or not hasattr(self, "prompt"):
            return time
        return time + self.prompt_mlp(self.text_mlp(degradation).softmax(1) * self.prompt)

    def _through(self, h: Tensor, time: Tensor, content: Tensor | None) -> Tensor:
        skips: list[Tensor] = []
        for level in self.downs:
            first, second, attended, down = level.children()
            skips.append(first(h, time))
            skips.append(attended(second(skips[-1], time), content))
            h = down(skips[-1])
        h = self.mid_block2(self.mid_attn(self.mid_block1(h, time), content), time)
        for level in self.ups:
            first, second, attended, up = level.children()
            h = first(torch.cat([h, skips.pop()], dim=1), time)
            h = second(torch.cat([h, skips.pop()], dim=1), time)
            h = up(attended(h, content))
        return h
