"""MSBDN-RDFF. Shapes: B images, C channels of a level, c = C / 2 of them in a half, H x W pixels of a level."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to

DENSE_LAYERS = 4
LEVELS = 4


class ReflectConv(nn.Module):
    """A convolution with reflected borders under the authors' name, `conv2d`."""

    def __init__(self, channels: int, outputs: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.border = size // 2
        self.conv2d = nn.Conv2d(channels, outputs, size, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2d(F.pad(x, (self.border,) * 4, mode="reflect"))


class UpsampleConv(nn.Module):
    """A transposed convolution that halves the channels: sides of h become 2h + 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv2d = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2d(x)


class ResidualBlock(nn.Module):
    """RB: two convolutions, scaled by 0.1, around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ReflectConv(channels, channels)
        self.conv2 = ReflectConv(channels, channels)
        self.relu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.conv2(self.relu(self.conv1(x)))


def _residual_blocks(channels: int, count: int = 3) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


class DenseLayer(nn.Module):
    """A convolution whose output is appended to its input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.relu(self.conv(x))], dim=1)


class DenseBlock(nn.Module):
    """RDB: dense layers, fused by a 1x1 convolution, around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = (DenseLayer((number + 1) * channels, channels) for number in range(DENSE_LAYERS))
        self.dense_layers = nn.Sequential(*layers)
        self.conv_1x1 = nn.Conv2d((DENSE_LAYERS + 1) * channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_1x1(self.dense_layers(x))


class Deconv(nn.Module):
    """A transposed convolution that doubles the sides, and a PReLU."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(channels, outputs, 4, stride=2, padding=1)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.deconv(x))


class Conv(nn.Module):
    """A convolution that halves the sides, and a PReLU."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 4, stride=2, padding=1)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class FeatureFusion(nn.Module):
    """Back-projection onto the features of all `count` - 1 levels passed so far, one after the other.

    With `upward` those levels are larger (encoder), otherwise smaller (decoder).
    """

    def __init__(self, channels: int, count: int, upward: bool) -> None:
        super().__init__()
        self.upward = upward
        if upward:
            widths = [channels >> number for number in range(count)]
        else:
            widths = [channels << number for number in range(count)]
        pairs = list(pairwise(widths))
        ups = [pair if upward else pair[::-1] for pair in pairs]
        self.up_convs = nn.ModuleList(Deconv(*pair) for pair in ups)
        self.down_convs = nn.ModuleList(Conv(*pair[::-1]) for pair in ups)

    def forward(self, features: Tensor, memory: Sequence[Tensor]) -> Tensor:  # [B, c, H, W]
        there, back = (self.up_convs, self.down_convs) if self.upward else (self.down_convs, self.up_convs)
        for number, remembered in enumerate(memory):
            steps = len(memory) - number
            t = features
            for layer in there[:steps]:
                t = layer(t)
            t = t - remembered
            for layer in reversed(back[:steps]):
                t = layer(t)
            features = features + t
        return features


class MSBDN(nn.Module):
    """Multi-Scale Boosted Dehazing Network (Dong et al., CVPR 2020), the student of TKMANet (Chen et al., CVPR 2022).

    A U-shape of five scales whose decoder boosts the result of the scale below, with back-projection onto all earlier
    scales; no global skip. TKMANet teaches it by one trained network per task: `forward_features` gives the four
    features at which it does so, `CollaborativeTransfer` the projections of these. Any H and W: reflected right and
    bottom up to a multiple of 16 and at least 32, and cropped after. Weights of the authors: MIT.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "dehaze"

    def __init__(self, *, width: int = 16, blocks: int = 18) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width is {width}: features are processed in halves, it must be even")
        self.conv_input = ReflectConv(3, width, size=11)
        self.dense0 = _residual_blocks(width)
        for level in range(1, LEVELS + 1):
            channels = width << level
            down = f"conv{2**level}x"
            self.add_module(down, ReflectConv(channels // 2, channels, stride=2))
            self.add_module(f"fusion{level}", FeatureFusion(channels // 2, level + 1, upward=True))
            self.add_module(f"conv{level}", DenseBlock(channels // 2))
            if level < LEVELS:
                self.add_module(f"dense{level}", _residual_blocks(channels))
        self.dehaze = nn.Sequential()
        for number in range(blocks):
            self.dehaze.add_module(f"res{number}", ResidualBlock(width << LEVELS))
        for level in range(LEVELS, 0, -1):
            channels = width << (level - 1)
            self.add_module(f"convd{2**level}x", UpsampleConv(2 * channels))
            self.add_module(f"dense_{level}", _residual_blocks(channels))
            self.add_module(f"fusion_{level}", FeatureFusion(channels // 2, LEVELS - level + 2, upward=False))
            self.add_module(f"conv_{level}", DenseBlock(channels // 2))
        self.conv_output = ReflectConv(width, 3)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        return self.forward_features(x, task)[0]

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The restored image, and "scale4", "scale8", "scale16" and "latent", of 4, 8, 16 and 16 times `width`."""
        height, width = x.shape[-2:]
        skips, r = self._encoded(pad_to(x, 16, "reflect", smallest=32))
        z = self.dehaze(2 * r) + r
        found = {"scale4": skips[2], "scale8": skips[3], "scale16": r, "latent": z}
        return self.conv_output(self._decoded(z, skips))[:, :, :height, :width], found

    def _encoded(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        r = self.conv_input(x)
        memory = [r.chunk(2, dim=1)[0]]
        skips = [self.dense0(r) + r]
        for level in range(1, LEVELS + 1):
            r = self._fused(self.get_submodule(f"conv{2**level}x")(skips[-1]), memory, level, "")
            if level < LEVELS:
                skips.append(self.get_submodule(f"dense{level}")(r) + r)
        return skips, r

    def _decoded(self, z: Tensor, skips: Sequence[Tensor]) -> Tensor:
        memory = [z.chunk(2, dim=1)[0]]
        for level in range(LEVELS, 0, -1):
            skip = skips[level - 1]
            larger = self.get_submodule(f"convd{2**level}x")(z)
            t = F.interpolate(larger, skip.shape[-2:], mode="bilinear")
            y = t + skip
            y = self.get_submodule(f"dense_{level}")(y) + y - t
            z = self._fused(y, memory, level, "_")
        return z

    def _fused(self, features: Tensor, memory: list[Tensor], level: int, mark: str) -> Tensor:
        """Fuse one half with the memory, which grows by the result, and run the other through a dense block."""
        first, second = features.chunk(2, dim=1)
        memory.append(self.get_submodule(f"fusion{mark}{level}")(first, tuple(memory)))
        return torch.cat([memory[-1], self.get_submodule(f"conv{mark}{level}")(second)], dim=1)


def _projection(*widths: int) -> nn.Sequential:
    first, second = (nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
    return nn.Sequential(first, nn.ReLU(), second)


class TeacherProjectors(nn.Module):
    """Projections of every teacher into the common space, and back."""

    def __init__(self, channels: int, teachers: int) -> None:
        super().__init__()
        half = channels // 2
        self.PFPs = nn.ModuleList(_projection(channels, half, half) for _ in range(teachers))
        self.IPFPs = nn.ModuleList(_projection(half, channels, channels) for _ in range(teachers))


class StudentProjector(nn.Module):
    """The projection of the student into the common space."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.PFP = _projection(channels, channels // 2, channels // 2)


class CollaborativeTransfer(nn.Module):
    """CKT of TKMANet (Chen et al., CVPR 2022): one feature of C channels of the student and of K teachers, compared.

    Needed while teachers teach, never to restore. One module per feature of `MSBDN.forward_features`.
    """

    def __init__(self, channels: int, teachers: int) -> None:
        super().__init__()
        self.teacher_projectors = TeacherProjectors(channels, teachers)
        self.student_projector = StudentProjector(channels)

    def forward(self, student: Tensor, teacher: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """[B, C, H, W] of the student and of teacher `number`.

        Returns both in the common space [B, C / 2, H, W] and the teacher's feature as reconstructed from there.
        """
        common = self.teacher_projectors.PFPs[number](teacher)
        return self.student_projector.PFP(student), common, self.teacher_projectors.IPFPs[number](common)
