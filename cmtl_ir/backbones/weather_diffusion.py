"""WeatherDiff. Shapes: B images, P patches of s x s pixels per image, C channels of a level, c the width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._gain import time_embedding
from cmtl_ir.backbones._layers import image_keys, pad_to
from cmtl_ir.backbones._tiles import Tiles
from cmtl_ir.base import keyed

TIMES = 1000
FIRST_BETA, LAST_BETA = 1e-4, 2e-2
GROUPS = 32
START = keyed.name_key("start")
AT_ONCE = 64  # patches that are evaluated together where no gradient is needed


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def _conv(channels: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 3, padding=1)


class ResidualBlock(nn.Module):
    """Rb: two normalised convolutions around a skip, with the time added between them."""

    def __init__(self, channels: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels)
        self.conv1 = _conv(channels, outputs)
        self.temb_proj = nn.Linear(time, outputs)
        self.norm2 = _norm(outputs)
        self.conv2 = _conv(outputs, outputs)
        if channels != outputs:
            self.nin_shortcut = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:  # [B, C, H, W], [B, 4c]
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    """At: attention between all pixels with one head, around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        query, key, value = (layer(h).flatten(2).mT[:, None] for layer in (self.q, self.k, self.v))  # [B, 1, N, C]
        found = F.scaled_dot_product_attention(query, key, value)[:, 0].mT
        return x + self.proj_out(found.reshape(x.shape))


class Resampled(nn.Module):
    """A convolution under the authors' name, `conv`, that halves the sides or follows their doubling."""

    def __init__(self, channels: int, doubled: bool) -> None:
        super().__init__()
        self.doubled = doubled
        self.conv = _conv(channels, channels) if doubled else nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0) if self.doubled else F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Blocks of one scale, each followed by attention if `attended`."""

    def __init__(self, widths: Sequence[tuple[int, int]], time: int, attended: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(inner, outer, time) for inner, outer in widths)
        self.attn = nn.ModuleList(Attention(outer) for _, outer in widths if attended)

    def at(self, number: int, h: Tensor, time: Tensor) -> Tensor:
        """Block `number` and its attention."""
        h = self.block[number](h, time)
        return self.attn[number](h) if len(self.attn) else h


class Down(Level):
    """A scale of the encoder."""

    def __init__(self, widths: Sequence[tuple[int, int]], time: int, attended: bool, last: bool) -> None:
        super().__init__(widths, time, attended)
        if not last:
            self.downsample = Resampled(widths[-1][1], doubled=False)

    def forward(self, h: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        """Everything that is made on the way is appended to `skips`."""
        for number in range(len(self.block)):
            h = self.at(number, h, time)
            skips.append(h)
        if hasattr(self, "downsample"):
            h = self.downsample(h)
            skips.append(h)
        return h


class Up(Level):
    """A scale of the decoder."""

    def __init__(self, widths: Sequence[tuple[int, int]], time: int, attended: bool, last: bool) -> None:
        super().__init__(widths, time, attended)
        if not last:
            self.upsample = Resampled(widths[-1][1], doubled=True)

    def forward(self, h: Tensor, time: Tensor, skips: list[Tensor]) -> Tensor:
        """Every block takes the newest of `skips`."""
        for number in range(len(self.block)):
            h = self.at(number, torch.cat([h, skips.pop()], dim=1), time)
        return self.upsample(h) if hasattr(self, "upsample") else h


class Middle(nn.Module):
    """The coarsest scale."""

    def __init__(self, channels: int, time: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, time)
        self.attn_1 = Attention(channels)
        self.block_2 = ResidualBlock(channels, channels, time)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(h, time)), time)


class TimeMlp(nn.Module):
    """The embedding of time under the authors' name, `dense`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList([nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)])
        self.width = width

    def forward(self, t: Tensor) -> Tensor:  # [B] -> [B, 4c]
        first, second = self.dense
        return second(F.silu(first(time_embedding(t, self.width))))


class WeatherDiffusion(nn.Module):
    """Patch-Based Denoising Diffusion in Adverse Weather (WeatherDiff; Özdenizci and Legenstein, TPAMI 2023).

    A diffusion network on patches whose noise estimates are averaged where patches overlap. `forward` samples by
    DDIM in `steps` steps, in training as in eval; the noise that it starts from is keyed by the content of each image.
    `training_pair` gives what the noise loss compares. One image costs `steps` evaluations of every patch. `noise`
    compiles as one graph; the sampler breaks it where it draws numbers. Any H and W: reflected right and bottom up to
    a multiple of `stride` that is at least `patch`, and cropped after. `task` is not read. Weights of the authors:
    MIT; prefer the averaged copy in their files.

    Departures: the authors resize images to multiples of 16, where borders would stay uncovered otherwise; antithetic
    times pair the patches of one image, not those of a batch.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "mid.block_2"

    def __init__(
        self,
        *,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 2,
        attention_sides: Sequence[int] = (16,),
        patch: int = 64,
        stride: int = 16,
        steps: int = 25,
        patches_per_image: int = 16,
    ) -> None:
        super().__init__()
        if patch % stride or patch % 2 ** (len(multipliers) - 1):
            raise ValueError(f"patch is {patch}: it must be a multiple of stride ({stride}) and divide on every level")
        if not 1 <= steps <= TIMES:
            raise ValueError(f"steps are 1 to {TIMES}, not {steps}")
        self.patch, self.stride, self.steps, self.patches_per_image = patch, stride, steps, patches_per_image
        betas = torch.linspace(FIRST_BETA, LAST_BETA, TIMES, dtype=torch.float64, device="cpu")
        self.signal = (1 - betas).cumprod(0)  # alpha bar
        self.temb = TimeMlp(width)
        self.conv_in = _conv(6, width)
        self._make_levels(width, [width * one for one in multipliers], blocks, attention_sides)
        self.norm_out = _norm(width * multipliers[0])
        self.conv_out = _conv(width * multipliers[0], 3)

    def _make_levels(self, width: int, widths: Sequence[int], blocks: int, attention_sides: Sequence[int]) -> None:
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        last, time = len(widths) - 1, 4 * width
        for i, outer in enumerate(widths):
            inner = widths[i - 1] if i else width
            attended = self.patch >> i in attention_sides
            encoded = [(inner, outer), *[(outer, outer)] * (blocks - 1)]
            self.down.append(Down(encoded, time, attended, last=i == last))
            own = [widths[min(i + 1, last)]] + [outer] * blocks
            skips = [outer] * blocks + [inner]
            decoded = [(a + b, outer) for a, b in zip(own, skips, strict=True)]
            self.up.append(Up(decoded, time, attended, last=i == 0))
        self.mid = Middle(widths[-1], time)

    def forward(
        self, x: Tensor, task: Tensor | None = None, target: Tensor | None = None, keys: Tensor | None = None
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Restore [B, 3, H, W] by sampling.

        With the clean images as `target` [B, 3, H, W], and `keys` [B], return x and the `training_pair` as "predicted"
        and "wanted" instead.
        """
        if target is not None:
            predicted, wanted = self.training_pair(x, target, keys)
            return x, {"predicted": predicted, "wanted": wanted}
        height, width = x.shape[-2:]
        padded = 2 * pad_to(x, self.stride, "reflect", smallest=self.patch) - 1
        noise = keyed.normal(keyed.mix(image_keys(x) ^ START), padded.shape[1:]).to(x.dtype)
        return ((self.sampled(padded, noise) + 1) / 2).clamp(0, 1)[:, :, :height, :width]

    def sampled(self, condition: Tensor, state: Tensor) -> Tensor:
        """Run DDIM from the state, both [B, 3, H, W] in [-1, 1] with sides that patches cover exactly."""
        tiles = Tiles((state.shape[2], state.shape[3]), self.patch, self.stride)
        condition_tiles = tiles.cut(condition)
        times = range(0, TIMES, TIMES // self.steps)
        for number in reversed(range(len(times))):
            signal = float(self.signal[times[number]])
            before = float(self.signal[times[number - 1]]) if number else 1.0
            noise = tiles.averaged(self._tile_noise(condition_tiles, tiles.cut(state), times[number])).to(state.dtype)
            clean = (state - noise * (1 - signal) ** 0.5) / signal**0.5
            state = before**0.5 * clean + (1 - before) ** 0.5 * noise
        return state

    def noise(self, condition: Tensor, state: Tensor, t: Tensor) -> Tensor:
        """The noise in patches [B, 3, s, s] at times [B] from 0 to 999; `condition` is the degraded image."""
        time = self.temb(t.to(state.dtype))
        h = self.conv_in(torch.cat([condition, state], dim=1))
        skips = [h]
        for level in self.down:
            h = level(h, time, skips)
        h = self.mid(h, time)
        for level in reversed(self.up):
            h = level(h, time, skips)
        return self.conv_out(F.silu(self.norm_out(h)))

    def training_pair(self, x: Tensor, target: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The predicted and the true noise [B, P, 3, s, s] of random patches at random times.

        The authors' loss is the sum of squared differences of a patch, averaged. Places, times and noise of each image
        come from its key in `keys` [B]. `None` makes the keys from the pixels of x.
        """
        keys = image_keys(x) if keys is None else keys
        count, side = self.patches_per_image, self.patch
        both = 2 * pad_to(torch.cat([x, target], dim=1), 1, "reflect", smallest=side) - 1
        condition, clean = self._patches(both, keys).chunk(2, dim=2)  # [B, P, 3, s, s]
        half = keyed.integers(keyed.substream(keys, "times"), 0, TIMES, ((count + 1) // 2,))
        t = torch.cat([half, TIMES - 1 - half], dim=1)[:, :count]  # [B, P]
        noise = keyed.normal(keyed.substream(keys, "noise"), clean.shape[1:]).to(x.dtype)
        signal = self.signal.to(x.device)[t].to(x.dtype)[:, :, None, None, None]
        state = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        predicted = self.noise(condition.flatten(0, 1), state.flatten(0, 1), t.flatten())
        return predicted.unflatten(0, (-1, count)), noise

    def _patches(self, x: Tensor, keys: Tensor) -> Tensor:  # [B, C, H, W], [B] -> [B, P, C, s, s]
        side, shape = self.patch, (self.patches_per_image, 1)
        steps = torch.arange(side, device=x.device)
        rows, columns = (
            keyed.integers(keyed.substream(keys, name), 0, length - side + 1, shape) + steps  # [B, P, s]
            for name, length in (("rows", x.shape[2]), ("columns", x.shape[3]))
        )
        images = torch.arange(len(x), device=x.device)[:, None, None, None]
        return x[images, :, rows[..., :, None], columns[..., None, :]].permute(0, 1, 4, 2, 3)

    def _tile_noise(self, condition: Tensor, state: Tensor, time: int) -> Tensor:
        times = torch.full((len(state),), time, device=state.device)
        if torch.is_grad_enabled():
            return self.noise(condition, state, times)
        parts = zip(condition.split(AT_ONCE), state.split(AT_ONCE), times.split(AT_ONCE), strict=True)
        return torch.cat([self.noise(*part) for part in parts])
