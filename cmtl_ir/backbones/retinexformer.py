"""Retinexformer. Shapes: B images, C channels of a level, H x W pixels of a level, n heads of c = C / n channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to

EXPANSION = 4  # of the feed-forward
GROUPS = 4  # of the estimator's 5x5 convolution


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def _halving(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False)


class IlluminationEstimator(nn.Module):
    """Light-up map and illumination features of an image and its mean over the colours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, channels, 1)
        self.depth_conv = nn.Conv2d(channels, channels, 5, padding=2, groups=GROUPS)
        self.conv2 = nn.Conv2d(channels, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [B, 3, H, W] -> [B, 3, H, W], [B, C, H, W]
        features = self.depth_conv(self.conv1(torch.cat([x, x.mean(1, keepdim=True)], dim=1)))
        return self.conv2(features), features


class IlluminationAttention(nn.Module):
    """IG-MSA: attention between channels, whose values the illumination features scale."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.proj = nn.Linear(channels, channels)
        self.pos_emb = nn.Sequential(_depthwise(channels), nn.GELU(), _depthwise(channels))

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:  # [B, H, W, C] twice
        value = self.to_v(x)
        query, key = (F.normalize(self._heads(one(x)), dim=-1) for one in (self.to_q, self.to_k))
        # Keys are the rows: transposed against Restormer's attention.
        attention = (key @ query.mT * self.rescale).softmax(-1)  # [B, n, c, c]
        mixed = (attention @ self._heads(value * illumination)).flatten(1, 2).mT.reshape(x.shape)
        return self.proj(mixed) + self.pos_emb(value.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def _heads(self, x: Tensor) -> Tensor:  # [B, H, W, C] -> [B, n, c, HW]
        return x.flatten(1, 2).mT.unflatten(1, (len(self.rescale), -1))


class FeedForward(nn.Module):
    """Pointwise, depthwise and pointwise convolution under the authors' name, `net`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = EXPANSION * channels
        self.net = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.GELU(),
            _depthwise(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, H, W, C]
        return self.net(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class NormedFeedForward(nn.Module):
    """The feed-forward of the normalised input under the authors' name, `fn`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fn = FeedForward(channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class IlluminationBlocks(nn.Module):
    """Attention, without a norm before it, and feed-forward; each is added to its input."""

    def __init__(self, channels: int, heads: int, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList([IlluminationAttention(channels, heads), NormedFeedForward(channels)]) for _ in range(count)
        )

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:  # [B, C, H, W] twice
        x, illumination = x.permute(0, 2, 3, 1), illumination.permute(0, 2, 3, 1)
        for block in self.blocks:
            attention, feed_forward = block.children()
            x = x + attention(x, illumination)
            x = x + feed_forward(x)
        return x.permute(0, 3, 1, 2)


class EncoderLayer(nn.ModuleList):
    """Blocks, and the strided convolutions of the image's and of the illumination's features."""

    def __init__(self, channels: int, heads: int, count: int) -> None:
        super().__init__([IlluminationBlocks(channels, heads, count), _halving(channels), _halving(channels)])


class DecoderLayer(nn.ModuleList):
    """A transposed convolution to twice the size, the fusion with the skip, and blocks."""

    def __init__(self, channels: int, heads: int, count: int) -> None:
        up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        fuse = nn.Conv2d(2 * channels, channels, 1, bias=False)
        super().__init__([up, fuse, IlluminationBlocks(channels, heads, count)])


class Denoiser(nn.Module):
    """A U-Net of three levels; the illumination features are halved together with the image's."""

    def __init__(self, channels: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.encoder_layers = nn.ModuleList(EncoderLayer(channels * 2**i, 2**i, blocks[i]) for i in range(2))
        self.bottleneck = IlluminationBlocks(4 * channels, 4, blocks[2])
        self.decoder_layers = nn.ModuleList(DecoderLayer(channels * 2**i, 2**i, blocks[i]) for i in (1, 0))
        self.mapping = nn.Conv2d(channels, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor, illumination: Tensor) -> Tensor:  # [B, 3, H, W], [B, C, H, W] -> [B, 3, H, W]
        h, kept = self.embedding(x), []
        for layer in self.encoder_layers:
            blocks, down, down_illumination = layer.children()
            h = blocks(h, illumination)
            kept.append((h, illumination))
            h, illumination = down(h), down_illumination(illumination)
        h = self.bottleneck(h, illumination)
        for layer in self.decoder_layers:
            up, fuse, blocks = layer.children()
            skip, illumination = kept.pop()
            h = blocks(fuse(torch.cat([up(h), skip], dim=1)), illumination)
        return self.mapping(h)


class Stage(nn.Module):
    """Lights the image up, then removes what that brought out."""

    def __init__(self, channels: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.estimator = IlluminationEstimator(channels)
        self.denoiser = Denoiser(channels, blocks)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, H, W]
        light, illumination = self.estimator(x)
        lit = x * light + x
        return lit + self.denoiser(lit, illumination)


class Retinexformer(nn.Module):
    """Retinexformer: One-stage Retinex-based Transformer for Low-light Image Enhancement (Cai et al., ICCV 2023).

    arXiv 2303.06705. Stages in sequence: each estimates a light-up map, and a U-Net guided by the illumination
    features restores the lit image. The defaults are the published network of one stage. Any H and W: reflected right
    and bottom up to a multiple of 4 (the border repeated where the image is too small to reflect) and cropped after.
    The authors clamp to [0, 1] when they test; the output here is not clamped. Their results named "GT mean" rescale
    the output by the target's mean and cannot be compared with others.

    The authors' weights are under the MIT licence. No departures. Raises ValueError for a width that is no multiple
    of 4 or blocks that are not three numbers.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "body.0.denoiser.bottleneck"

    def __init__(self, *, width: int = 40, stages: int = 1, blocks: Sequence[int] = (1, 2, 2)) -> None:
        super().__init__()
        if width % GROUPS or len(blocks) != 3:
            raise ValueError(f"width {width} must be a multiple of {GROUPS}, and blocks {tuple(blocks)} three numbers")
        self.body = nn.Sequential(*(Stage(width, blocks) for _ in range(stages)))
        self.apply(_initialise)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        height, width = x.shape[-2:]
        return self.body(pad_to(x, 4, "reflect"))[:, :, :height, :width]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
