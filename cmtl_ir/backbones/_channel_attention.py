"""Convolutions with channel attention (RCAN's), as MambaIR and GRL use them. Shapes: B images, C channels, H x W."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelGate(nn.Module):
    """x * sigmoid(expand(relu(squeeze(mean of x)))) under the authors' name, `attention`."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return x * self.attention(x)


class ChannelAttentionBlock(nn.Module):
    """Two convolutions through `hidden` channels, then the gate. `light`: pointwise and depthwise convolutions.

    `squeezed` is the number of channels inside the gate.
    """

    def __init__(self, channels: int, hidden: int, squeezed: int, light: bool = False) -> None:
        super().__init__()
        gate = ChannelGate(channels, squeezed)
        if light:
            self.cab = nn.Sequential(
                nn.Conv2d(channels, hidden, 1),
                nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
                nn.GELU(),
                nn.Conv2d(hidden, channels, 1),
                nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=channels),
                gate,
            )
        else:
            self.cab = nn.Sequential(
                nn.Conv2d(channels, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, channels, 3, padding=1), gate
            )

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return self.cab(x)
