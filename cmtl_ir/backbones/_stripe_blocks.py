"""Blocks of GRL. Shapes: B images, H x W pixels, C channels, n heads of each branch, N pieces of T pixels.

A is the number of anchors in a piece.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._channel_attention import ChannelAttentionBlock
from cmtl_ir.backbones._layers import DropPath
from cmtl_ir.backbones._stripe_geometry import Geometry, cut, forbidden, paste
from cmtl_ir.backbones.swinir import Mlp

BIAS_HIDDEN = 512
BIAS_RANGE = 16.0
HIGHEST_SCALE = math.log(100)
COMPRESS, SQUEEZE = 4, 18  # of the local connection


class Layout(NamedTuple):
    """How one block cuts the map."""

    window: Geometry
    stripe: Geometry


class AttentionTransform(nn.Module):
    """Cosine attention with a learned scale and a bias for each offset that a small network computes."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, BIAS_HIDDEN), nn.ReLU(), nn.Linear(BIAS_HIDDEN, heads, bias=False))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, table: Tensor, index: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return [B, N, n, Q, c] for query [B, N, n, Q, c], key and value [B, N, n, K, c] and index [1, Q, K]."""
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT
        scores = scores * self.logit_scale.clamp(max=HIGHEST_SCALE).exp()
        bias = BIAS_RANGE * self.cpb_mlp(table)[0].sigmoid()  # [P, n]
        scores = scores + bias[index].permute(0, 3, 1, 2)[:, None]
        if mask is not None:
            scores = scores + mask
        return scores.softmax(-1) @ value


class WindowAttention(nn.Module):
    """Attention inside windows."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.attn_transform = AttentionTransform(heads)

    def forward(self, qkv: Tensor, window: Geometry) -> Tensor:  # [B, H, W, 3C/2] -> [B, H, W, C/2]
        query, key, value = _heads(_pieces(qkv, window.size, window.shift), 3, len(self.attn_transform.logit_scale))
        mask = None if window.mask is None else forbidden(window.mask[0], window.mask[0], query.dtype)
        mixed = self.attn_transform(query, key, value, window.table, window.to_anchors, mask)
        return _back(mixed, qkv, window)


class StripeAttention(nn.Module):
    """Anchored attention inside stripes: the anchors collect from the pixels, then the pixels from the anchors."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.attn_transform1 = AttentionTransform(heads)
        self.attn_transform2 = AttentionTransform(heads)

    def forward(self, qkv: Tensor, anchors: Tensor, stripe: Geometry) -> Tensor:
        """Return [B, H, W, C/2] for qkv [B, H, W, 3C/2] and anchors [B, H/factor, W/factor, C/2]."""
        heads = len(self.attn_transform1.logit_scale)
        query, key, value = _heads(_pieces(qkv, stripe.size, stripe.shift), 3, heads)
        (anchor,) = _heads(_pieces(anchors, stripe.anchor_size, stripe.anchor_shift), 1, heads)
        collect = spread = None
        if stripe.mask is not None:
            pixels, few = stripe.mask
            collect, spread = forbidden(few, pixels, query.dtype), forbidden(pixels, few, query.dtype)
        collected = self.attn_transform1(anchor, key, value, stripe.table, stripe.from_anchors, collect)
        mixed = self.attn_transform2(query, anchor, collected, stripe.table, stripe.to_anchors, spread)
        return _back(mixed, qkv, stripe)


def _pieces(x: Tensor, size: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    return cut(x.roll((-shift[0], -shift[1]), (1, 2)) if any(shift) else x, size)


def _heads(pieces: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:  # [B, N, T, parts * C/2]
    """`parts` tensors [B, N, n, T, c]."""
    return pieces.unflatten(3, (parts, heads, -1)).permute(3, 0, 1, 4, 2, 5).unbind(0)


def _back(mixed: Tensor, like: Tensor, where: Geometry) -> Tensor:  # [B, N, n, T, c] -> [B, H, W, C/2]
    x = paste(mixed.transpose(2, 3).flatten(3), like.shape[:3], where.size)
    return x.roll(where.shift, (1, 2)) if any(where.shift) else x


class Projection(nn.Module):
    """The linear map to queries, keys and values of both branches under the authors' name, `body`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Linear(channels, 3 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Reduction(nn.Module):
    """Mean over `factor` x `factor` pixels, then a linear map to half the channels."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.reduction = nn.Linear(channels, channels // 2)

    def forward(self, x: Tensor) -> Tensor:  # [B, H, W, C] -> [B, H/factor, W/factor, C/2]
        return self.reduction(F.avg_pool2d(x.permute(0, 3, 1, 2), self.factor).permute(0, 2, 3, 1))


class AnchorProjection(nn.Module):
    """The anchors under the authors' name, `body.0`."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.body = nn.ModuleList([Reduction(channels, factor)])

    def forward(self, x: Tensor) -> Tensor:
        return self.body[0](x)


class MixedAttention(nn.Module):
    """Window attention on one half of the channels, anchored stripe attention on the other."""

    def __init__(self, channels: int, heads: int, factor: int) -> None:
        super().__init__()
        self.qkv = Projection(channels)
        self.anchor = AnchorProjection(channels, factor)
        self.window_attn = WindowAttention(heads)
        self.stripe_attn = StripeAttention(heads)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:  # [B, H, W, C]
        window, stripe = self.qkv(x).chunk(2, dim=-1)
        near = self.window_attn(window, layout.window)
        far = self.stripe_attn(stripe, self.anchor(x), layout.stripe)
        return self.proj(torch.cat([near, far], dim=-1))


class StripeBlock(nn.Module):
    """Attention and feed-forward, each normalised after it; `local` adds convolutions with channel attention."""

    def __init__(
        self, channels: int, heads: int, hidden: int, factor: int, *, local: bool, drop: float, place: str
    ) -> None:
        super().__init__()
        self.attn = MixedAttention(channels, heads, factor)
        self.norm1 = nn.LayerNorm(channels)
        if local:
            self.conv = ChannelAttentionBlock(channels, channels // COMPRESS, channels // SQUEEZE)
        self.mlp = Mlp(channels, hidden)
        self.norm2 = nn.LayerNorm(channels)
        self.drop_attention = DropPath(drop, f"{place}.attention")
        self.drop_mlp = DropPath(drop, f"{place}.mlp")

    def forward(self, x: Tensor, layout: Layout, keys: Tensor) -> Tensor:  # [B, H, W, C], [B] -> [B, H, W, C]
        attended = x + self.drop_attention(self.norm1(self.attn(x, layout)), keys)
        if hasattr(self, "conv"):
            attended = attended + self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return attended + self.drop_mlp(self.norm2(self.mlp(attended)), keys)
