"""MambaIR. Shapes: B images, C channels, H x W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._layers import image_keys, rising_rates
from cmtl_ir.backbones._scan import ScanKind
from cmtl_ir.backbones._state_space import StateSpaceBlock, check_width
from cmtl_ir.backbones._upsample import check_upsampler, direct_steps, shuffle_steps
from cmtl_ir.backbones.swinir import MEAN, UPSAMPLER_CHANNELS, PatchEmbed

Connection = Literal["1conv", "3conv"]


def _connection(channels: int, kind: Connection) -> nn.Module:
    """The convolution at the end of a group; `3conv` goes through a quarter of the channels."""
    if kind == "1conv":
        return nn.Conv2d(channels, channels, 3, padding=1)
    inner = channels // 4
    return nn.Sequential(
        nn.Conv2d(channels, inner, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(inner, inner, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(inner, channels, 3, padding=1),
    )


class BlockList(nn.Module):
    """The blocks of one group under the authors' name, `residual_group.blocks`."""

    def __init__(self, blocks: list[StateSpaceBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)


class ResidualGroup(nn.Module):
    """x + conv(blocks x)."""

    def __init__(self, channels: int, blocks: list[StateSpaceBlock], connection: Connection) -> None:
        super().__init__()
        self.residual_group = BlockList(blocks)
        self.conv = _connection(channels, connection)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:  # [B, H, W, C], [B] -> [B, H, W, C]
        h = x
        for block in self.residual_group.blocks:
            h = block(h, keys)
        return x + self.conv(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class MambaIR(nn.Module):
    """MambaIR: A Simple Baseline for Image Restoration with State-Space Model (Guo et al., ECCV 2024).

    arXiv 2402.15648. SwinIR with selective scans over the whole image in place of window attention. The defaults are
    the published colour denoiser. Any H and W, without padding. With an `upsampler` the output is [B, 3, scale H, scale
    W]; `pixelshuffledirect` also selects the lighter convolutions of the small published networks. Published
    super-resolution: `expansion` 2, and `states` 10 in the light one. `scan: loop` is the slow reference of the
    selective scan. The authors' weights are under Apache-2.0.

    Departures: the scan is written in PyTorch, where the authors call the CUDA kernel of mamba_ssm. It stays in float32
    under autocast, as theirs does. Stochastic depth reads its coin off the sample's pixels (see DropPath). Raises
    ValueError for a width below 30 and for an upsampler that does not fit the scale.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "conv_after_body"
    mean: Tensor

    def __init__(
        self,
        *,
        width: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        states: int = 16,
        expansion: float = 1.2,
        drop_path: float = 0.1,
        connection: Connection = "1conv",
        upsampler: Literal["", "pixelshuffle", "pixelshuffledirect"] = "",
        scale: int = 1,
        scan: ScanKind = "blocked",
    ) -> None:
        super().__init__()
        check_width(width)
        check_upsampler(upsampler, scale)
        # The authors' constants have float32's precision in any dtype.
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.patch_embed = PatchEmbed(width)
        light, rates = upsampler == "pixelshuffledirect", rising_rates(drop_path, sum(depths))
        self.layers = nn.ModuleList()
        for number, depth in enumerate(depths):
            drops, rates = rates[:depth], rates[depth:]
            blocks = [
                StateSpaceBlock(
                    width, states, expansion, light=light, drop=drop, place=f"layers.{number}.{place}", scan=scan
                )
                for place, drop in enumerate(drops)
            ]
            self.layers.append(ResidualGroup(width, blocks, connection))
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = _connection(width, connection)
        self._make_ending(width, upsampler, scale)
        self.apply(_initialise)

    def _make_ending(self, width: int, upsampler: str, scale: int) -> None:
        self.upsampler = upsampler
        if upsampler == "pixelshuffledirect":
            self.upsample = nn.Sequential(*direct_steps(width, scale))
            return
        if upsampler == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(
                nn.Conv2d(width, UPSAMPLER_CHANNELS, 3, padding=1), nn.LeakyReLU(0.01)
            )
            self.upsample = nn.Sequential(*shuffle_steps(UPSAMPLER_CHANNELS, scale))
            width = UPSAMPLER_CHANNELS
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, scale H, scale W]
        mean = self.mean.to(x.dtype)
        centred = x - mean
        first = self.conv_first(centred)
        return self._ending(centred, first + self.conv_after_body(self._deep(first, image_keys(x)))) + mean

    def _deep(self, features: Tensor, keys: Tensor) -> Tensor:  # [B, C, H, W]
        h = self.patch_embed(features.permute(0, 2, 3, 1))
        for layer in self.layers:
            h = layer(h, keys)
        return self.norm(h).permute(0, 3, 1, 2)

    def _ending(self, centred: Tensor, features: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(features)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(self.conv_before_upsample(features)))
        return centred + self.conv_last(features)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
