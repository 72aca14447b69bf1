"""A residual U-Net (DRUNet). Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to


class ResidualBlock(nn.Module):
    """x + conv relu conv x, without bias or normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.res = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return x + self.res(x)


class UNet(nn.Module):
    """DRUNet, the network of Plug-and-Play Image Restoration with Deep Denoiser Prior (Zhang et al., TPAMI 2021).

    Four levels of residual blocks, strided 2x2 convolutions down, transposed ones up, additive skips, no bias and no
    global skip. Any H and W: the border is repeated right and bottom up to a multiple of 8 and cropped after.
    `noise_level` (in 8-bit units) appends a constant map to the image, as the published denoiser expects it; `None`
    appends nothing.
    """

    couples_samples = False
    latent_module: ClassVar[str] = "m_body"
    unused: tuple[str, ...] = ()

    def __init__(
        self, *, widths: Sequence[int] = (64, 128, 256, 512), blocks: int = 4, noise_level: float | None = None
    ) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ValueError(f"widths has {len(widths)} numbers: give four, one per level")
        self.noise_level = noise_level

        def residuals(channels: int) -> list[nn.Module]:
            return [ResidualBlock(channels) for _ in range(blocks)]

        def down(fine: int, coarse: int) -> nn.Sequential:
            return nn.Sequential(*residuals(fine), nn.Conv2d(fine, coarse, 2, stride=2, bias=False))

        def up(coarse: int, fine: int) -> nn.Sequential:
            return nn.Sequential(nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False), *residuals(fine))

        first, second, third, fourth = widths
        self.m_head = nn.Conv2d(3 if noise_level is None else 4, first, 3, padding=1, bias=False)
        self.m_down1 = down(first, second)
        self.m_down2 = down(second, third)
        self.m_down3 = down(third, fourth)
        self.m_body = nn.Sequential(*residuals(fourth))
        self.m_up3 = up(fourth, third)
        self.m_up2 = up(third, second)
        self.m_up1 = up(second, first)
        self.m_tail = nn.Conv2d(first, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        if self.noise_level is None:
            return self.restored(x)
        return self.restored(torch.cat([x, torch.full_like(x[:, :1], self.noise_level / 255)], dim=1))

    def restored(self, x: Tensor) -> Tensor:  # [B, 3 or 4, H, W] -> [B, 3, H, W]
        """Restore images whose fourth channel, if any, is a noise-level map."""
        height, width = x.shape[-2:]
        x1 = self.m_head(pad_to(x, 8, "replicate"))
        x2 = self.m_down1(x1)
        x3 = self.m_down2(x2)
        x4 = self.m_down3(x3)
        h = self.m_up3(self.m_body(x4) + x4)
        h = self.m_up2(h + x3)
        h = self.m_up1(h + x2)
        return self.m_tail(h + x1)[:, :, :height, :width]
