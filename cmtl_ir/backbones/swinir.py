"""SwinIR. Shapes: B images, H x W pixels, C channels, N windows of T = w * w pixels in an image, n heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import DropPath, image_keys, pad_to, rising_rates

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K
UPSAMPLER_CHANNELS = 64
FORBIDDEN = -100.0  # what the mask adds to a score; e^-100 is negligible


def windows_of(x: Tensor, window: int) -> Tensor:  # [B, H, W, C] -> [B, N, T, C]
    """Divide maps into windows, row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(batch, -1, window * window, channels)


def from_windows(windows: Tensor, shape: Sequence[int], window: int) -> Tensor:  # [B, N, T, C] -> [B, H, W, C]
    """Assemble windows to maps."""
    batch, height, width, channels = shape
    x = windows.view(batch, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(batch, height, width, channels)


def shift_mask(height: int, width: int, window: int, device: torch.device | None = None) -> Tensor:  # [N, T, T]
    """Return the mask that forbids attention in the rolled map between pixels that were not neighbours before."""

    def region(side: int) -> Tensor:
        place = torch.arange(side, device=device)
        return (place >= side - window).long() + (place >= side - window // 2).long()

    regions = 3 * region(height)[:, None] + region(width)
    tokens = windows_of(regions[None, :, :, None], window)[0]  # [N, T, 1]
    return FORBIDDEN * (tokens != tokens.mT).float()


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias per offset between two pixels."""

    relative_position_index: Tensor  # [T, T]

    def __init__(self, channels: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        reach = 2 * window - 1
        self.relative_position_bias_table = nn.Parameter(torch.zeros(reach**2, heads))
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        y, x = y.flatten(), x.flatten()
        down, across = y[:, None] - y + window - 1, x[:, None] - x + window - 1
        self.register_buffer("relative_position_index", down * reach + across)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:  # [B, N, T, C], [N, T, T] -> [B, N, T, C]
        split = self.qkv(x).unflatten(3, (3, self.heads, -1))
        query, key, value = split.permute(3, 0, 1, 4, 2, 5)  # [B, N, n, T, C / n] each
        scores = query * query.shape[-1] ** -0.5 @ key.mT  # [B, N, n, T, T]
        # One view of the table per sample costs nothing and keeps the gradients of different samples separate.
        table = self.relative_position_bias_table.expand(len(x), -1, -1)
        scores = scores + table[:, self.relative_position_index].permute(0, 3, 1, 2)[:, None]
        if mask is not None:
            scores = scores + mask[:, None].to(scores.dtype)
        return self.proj((scores.softmax(-1) @ value).transpose(2, 3).flatten(3))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinLayer(nn.Module):
    """Window attention and feed-forward. In every other layer the map is rolled by half a window."""

    def __init__(
        self, channels: int, heads: int, window: int, shift: int, hidden: int, drop: float, place: str
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, window, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, hidden)
        self.drop_attention = DropPath(drop, f"{place}.attention")
        self.drop_mlp = DropPath(drop, f"{place}.mlp")

    def forward(self, x: Tensor, mask: Tensor, keys: Tensor) -> Tensor:  # [B, H, W, C], [N, T, T], [B]
        x = x + self.drop_attention(self._attention(self.norm1(x), mask), keys)
        return x + self.drop_mlp(self.mlp(self.norm2(x)), keys)

    def _attention(self, x: Tensor, mask: Tensor) -> Tensor:
        if not self.shift:
            return from_windows(self.attn(windows_of(x, self.window), None), x.shape, self.window)
        rolled = x.roll((-self.shift, -self.shift), (1, 2))
        attended = from_windows(self.attn(windows_of(rolled, self.window), mask), x.shape, self.window)
        return attended.roll((self.shift, self.shift), (1, 2))


class LayerGroup(nn.Module):
    """The layers of one residual Swin block under the authors' name, `residual_group.blocks`."""

    def __init__(self, layers: list[SwinLayer]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(layers)


class ResidualSwinBlock(nn.Module):
    """x + conv(layers(x))."""

    def __init__(self, channels: int, layers: list[SwinLayer]) -> None:
        super().__init__()
        self.residual_group = LayerGroup(layers)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor, keys: Tensor) -> Tensor:  # [B, H, W, C]
        h = x
        for layer in self.residual_group.blocks:
            h = layer(h, mask, keys)
        return x + self.conv(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """The norm before the first layer under the authors' name, `norm`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class SwinIR(nn.Module):
    """SwinIR: Image Restoration Using Swin Transformer (Liang et al., ICCV Workshops 2021, arXiv 2108.10257).

    The defaults are the published colour denoiser. Any H and W: reflected right and bottom up to a multiple of the
    window (the border is repeated if the image is too small to reflect) and cropped after. With an `upsampler` the
    output is [B, 3, scale H, scale W]. `image_size` is the patch of the published training. It determines the size of
    buffers that strict loading requires and that nothing reads. As in the authors' code, an `image_size` not larger
    than the window turns shifting off.

    Departures: stochastic depth depends on the sample's pixels (see DropPath). There are no grey images and no
    nearest-neighbour upsampler.
    """

    couples_samples = False
    latent_module: ClassVar[str] = "conv_after_body"
    unused: tuple[str, ...] = ()
    sized_by_file: tuple[str, ...] = ("*.attn_mask",)
    mean: Tensor

    def __init__(
        self,
        *,
        width: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        heads: Sequence[int] = (6, 6, 6, 6, 6, 6),
        window: int = 8,
        expansion: float = 2.0,
        drop_path: float = 0.1,
        upsampler: Literal["", "pixelshuffle", "pixelshuffledirect"] = "",
        scale: int = 1,
        value_range: float = 1.0,
        image_size: int = 128,
    ) -> None:
        super().__init__()
        if len(depths) != len(heads):
            raise ValueError(f"depths has {len(depths)} numbers and heads {len(heads)}: give both the same number")
        if (upsampler == "") != (scale == 1):
            raise ValueError(
                f"upsampler {upsampler!r} does not fit scale {scale}: scale 1 has none, other scales need one"
            )
        self.window, self.scale, self.value_range = min(window, image_size), scale, value_range
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.patch_embed = PatchEmbed(width)
        rates = rising_rates(drop_path, sum(depths))
        self.layers = nn.ModuleList()
        for number, (depth, head_count) in enumerate(zip(depths, heads, strict=True)):
            drops, rates = rates[:depth], rates[depth:]
            layers = self._layers(width, head_count, int(width * expansion), drops, image_size, f"layers.{number}")
            self.layers.append(ResidualSwinBlock(width, layers))
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = nn.Conv2d(width, width, 3, padding=1)
        self._make_ending(width, upsampler)
        self.apply(_initialise)

    def _layers(
        self, channels: int, heads: int, hidden: int, drops: list[float], image_size: int, place: str
    ) -> list[SwinLayer]:
        half = self.window // 2 if image_size > self.window else 0
        shifts = [half * (number % 2) for number in range(len(drops))]
        layers = [
            SwinLayer(channels, heads, self.window, shift, hidden, drop, f"{place}.{number}")
            for number, (shift, drop) in enumerate(zip(shifts, drops, strict=True))
        ]
        for layer in layers:
            if layer.shift:
                layer.register_buffer("attn_mask", shift_mask(image_size, image_size, self.window))
        return layers

    def _make_ending(self, width: int, upsampler: str) -> None:
        self.upsampler = upsampler
        if upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(
                nn.Conv2d(width, 3 * self.scale**2, 3, padding=1), nn.PixelShuffle(self.scale)
            )
            return
        if upsampler == "pixelshuffle":
            inner = UPSAMPLER_CHANNELS
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(width, inner, 3, padding=1), nn.LeakyReLU(0.01))
            # A power of two is reached in steps of two, three in one step.
            factors = [3] if self.scale == 3 else [2] * (self.scale.bit_length() - 1)
            if math.prod(factors) != self.scale:
                raise ValueError(f"pixelshuffle cannot upsample by {self.scale}: scale is 3 or a power of two")
            steps = [(nn.Conv2d(inner, inner * one**2, 3, padding=1), nn.PixelShuffle(one)) for one in factors]
            self.upsample = nn.Sequential(*(module for step in steps for module in step))
            width = inner
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, scale H, scale W]
        height, width = x.shape[-2:]
        padded = (pad_to(x, self.window, "reflect") - self.mean) * self.value_range
        first = self.conv_first(padded)
        restored = self._ending(padded, first + self.conv_after_body(self._deep(first, image_keys(x))))
        return (restored / self.value_range + self.mean)[:, :, : height * self.scale, : width * self.scale]

    def _deep(self, features: Tensor, keys: Tensor) -> Tensor:  # [B, C, H, W]
        mask = shift_mask(features.shape[2], features.shape[3], self.window, features.device)
        h = self.patch_embed(features.permute(0, 2, 3, 1))
        for layer in self.layers:
            h = layer(h, mask, keys)
        return self.norm(h).permute(0, 3, 1, 2)

    def _ending(self, padded: Tensor, features: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(features)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(self.conv_before_upsample(features)))
        return padded + self.conv_last(features)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
