"""The pieces of DGUNet and DGUNet+. Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._cab import conv
from cmtl_ir.backbones._instance import AffineInstanceNorm

DIMENSIONS: Final = 16  # of the subspace that `Merge` projects to
HIDDEN: Final = 64  # channels inside of a learned degradation
SLOPE: Final = 0.2
SMALLEST: Final = 16  # pixels a side: the instance norms of the bottleneck need more than one

Levels = list[Tensor]
"""Features of the levels, finest first: level i has half the height and width of level i - 1."""


def level_widths(width: int, growth: int) -> list[int]:
    """Channels of the three levels and of the bottleneck. Raises ValueError where half of them cannot be normalised."""
    widths = [width + level * growth for level in range(4)]
    if width < 4 or any(channels % 2 for channels in widths[1:]):
        raise ValueError(
            f"width {width} and growth {growth} give {widths} channels: at least 4, and even from the second"
        )
    return widths


def step_size() -> nn.Parameter:
    """The learned factor of a gradient step, [1]."""
    return nn.Parameter(torch.full((1,), 0.5))


def biased(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """A convolution with bias that keeps height and width."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2)


class Degradation(nn.Module):
    """A learned degradation, or its transpose: an image [B, 3, H, W] -> an image of the same shape."""

    def __init__(self, activation: nn.PReLU) -> None:
        super().__init__()
        self.body = nn.Sequential(biased(3, HIDDEN), activation, biased(HIDDEN, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def gradient_step(restored: Tensor, observed: Tensor, rate: Tensor, phi: nn.Module, phit: nn.Module) -> Tensor:
    """Move the restored image against the gradient of the squared error of what it degrades to.

    The images are [B, 3, H, W], the rate [1]; `phi` degrades, `phit` is its transpose.
    """
    return restored - rate * phit(phi(restored) - observed)


class Block(nn.Module):
    """Two convolutions and a pointwise one around them: [B, C, H, W] -> [B, D, H, W].

    normed: normalise the first half of the channels over each image, between the convolutions.
    fused: take the features of the previous stage in addition.
    """

    def __init__(self, inputs: int, outputs: int, *, normed: bool = False, fused: bool = False) -> None:
        super().__init__()
        self.identity = biased(inputs, outputs, 1)
        self.conv_1 = biased(inputs, outputs)
        self.conv_2 = biased(outputs, outputs)
        self.normed = normed
        if fused:
            self.csff_enc = biased(outputs, outputs)
            self.csff_dec = biased(inputs, outputs)
            self.phi = biased(outputs, outputs)
            self.gamma = biased(outputs, outputs)
        if normed:
            self.norm = AffineInstanceNorm(outputs // 2)

    def forward(self, x: Tensor, encoded: Tensor | None = None, decoded: Tensor | None = None) -> Tensor:
        """`encoded` [B, D, H, W] and `decoded` [B, C, H, W] are the previous stage's, `None` where it is not fused."""
        h = self.conv_1(x)
        if self.normed:
            first, second = h.chunk(2, dim=1)
            h = torch.cat([self.norm(first), second], dim=1)
        h = F.leaky_relu(self.conv_2(F.leaky_relu(h, SLOPE)), SLOPE) + self.identity(x)
        if encoded is None or decoded is None:
            return h
        k = F.leaky_relu(self.csff_enc(encoded) + self.csff_dec(decoded), 0.1)
        return h * torch.sigmoid(self.phi(k)) + self.gamma(k) + h


class EncoderBlock(Block):
    """A normalised block, with the convolution that leads to the next level where there is one."""

    def __init__(self, inputs: int, outputs: int, *, fused: bool, reduces: bool) -> None:
        super().__init__(inputs, outputs, normed=True, fused=fused and reduces)
        if reduces:
            self.downsample = nn.Conv2d(outputs, outputs, 4, stride=2, padding=1, bias=False)


class Encoder(nn.Module):
    """[B, C, H, W] -> the features of three levels and of the bottleneck below them; `widths` has four numbers."""

    def __init__(self, widths: Sequence[int], fused: bool) -> None:
        super().__init__()
        pairs = zip(widths, [*widths[1:], widths[-1]], strict=True)
        self.body = nn.ModuleList(
            EncoderBlock(inputs, outputs, fused=fused, reduces=level < 3)
            for level, (inputs, outputs) in enumerate(pairs)
        )

    def forward(self, x: Tensor, encoded: Levels | None = None, decoded: Levels | None = None) -> tuple[Levels, Tensor]:
        """`encoded` and `decoded` are the previous stage's, `None` in the first stage."""
        levels: Levels = []
        for level, block in enumerate(self.body[:3]):
            previous = (encoded[level], decoded[level]) if encoded and decoded else ()
            levels.append(block(x, *previous))
            x = block.get_submodule("downsample")(levels[-1])
        return levels, self.body[3](x)


class DecoderBlock(nn.Module):
    """Features of a coarser level and the skip of this one -> the features of this level."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.conv_block = Block(2 * outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv_block(torch.cat([self.up(x), skip], dim=1))


class Decoder(nn.Module):
    """The encoder's levels and bottleneck -> levels, of as many channels as the encoder's inputs had."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = [(widths[level + 1], widths[level]) for level in (2, 1, 0)]
        self.body = nn.ModuleList(DecoderBlock(inputs, outputs) for inputs, outputs in pairs)
        self.skip_conv = nn.ModuleList(biased(inputs, outputs) for inputs, outputs in pairs)

    def forward(self, levels: Levels, x: Tensor) -> Levels:
        decoded: Levels = []
        for block, skip, features in zip(self.body, self.skip_conv, reversed(levels), strict=True):
            x = block(x, skip(features))
            decoded.insert(0, x)
        return decoded


class Supervision(nn.Module):
    """SAM: features [B, C, H, W] and an image -> features for the next stage, and the restored image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, 1)
        self.conv2 = conv(channels, 3, 1)

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return features + self.conv1(features), self.conv2(features) + image


class Merge(nn.Module):
    """Add to a stage's features those of the previous one, projected to a subspace that both span together."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = biased(2 * channels, channels)
        self.subnet = biased(2 * channels, DIMENSIONS)

    def forward(self, x: Tensor, previous: Tensor) -> Tensor:  # [B, C, H, W] each
        basis = self.subnet(torch.cat([x, previous], dim=1))
        return x + self.conv_block(torch.cat([x, projected(previous, basis)], dim=1))


def projected(x: Tensor, basis: Tensor) -> Tensor:
    """Every channel of x [B, C, H, W], projected to the span of the channels of `basis` [B, D, H, W].

    In float32 or better, also under autocast. The basis is scaled to unit length, and its Gram matrix gets the
    rounding error of its own entries on the diagonal, so that dependent channels are no error.
    """
    with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):
        exact = torch.promote_types(x.dtype, torch.float32)
        rows = F.normalize(basis.to(exact).flatten(2), dim=-1)  # [B, D, HW]
        rounding = DIMENSIONS * torch.finfo(exact).eps * torch.eye(rows.shape[1], dtype=exact, device=x.device)
        coefficients = torch.linalg.solve(rows @ rows.mT + rounding, rows @ x.to(exact).flatten(2).mT)  # [B, D, C]
        return (coefficients.mT @ rows).reshape(x.shape).to(x.dtype)


def cropped(images: Sequence[Tensor], height: int, width: int) -> list[Tensor]:
    """Images [B, 3, ., .], the last one first, cropped to height x width."""
    return [image[:, :, :height, :width] for image in reversed(images)]
