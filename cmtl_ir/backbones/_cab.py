"""The channel attention block of MPRNet and DGUNet, and what surrounds it in both."""

from __future__ import annotations

from torch import Tensor, nn

REDUCTION = 4


def conv(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """A convolution without bias that keeps height and width."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)


class ChannelAttention(nn.Module):
    """A factor in (0, 1) per channel, from the channels' means: [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            conv(channels, channels // REDUCTION, 1), nn.ReLU(), conv(channels // REDUCTION, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv_du(x.mean((2, 3), keepdim=True))


class AttentionBlock(nn.Module):
    """CAB: two convolutions with channel attention, added to the input.

    `activation` may be shared by several blocks: the state dict then lists its slope once per block.
    """

    def __init__(self, channels: int, activation: nn.PReLU) -> None:
        super().__init__()
        self.CA = ChannelAttention(channels)
        self.body = nn.Sequential(conv(channels, channels), activation, conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return x + self.CA(self.body(x))


def shallow(channels: int, activation: nn.PReLU) -> nn.Sequential:
    """[B, 3, H, W] -> [B, C, H, W]: a convolution, then one attention block."""
    return nn.Sequential(conv(3, channels), AttentionBlock(channels, activation))
