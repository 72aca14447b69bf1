"""Pieces of plain vision transformers. Shapes: B images, N tokens, D channels, n heads, p x p pixels of a patch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """One token per patch under the authors' name, `proj`."""

    def __init__(self, patch: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, D, H / p, W / p]
        return self.proj(x)


class Mlp(nn.Module):
    """The feed-forward half of a block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Attention between all tokens."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels do not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, N, D]
        query, key, value = self.split(x)
        return self.merge(F.scaled_dot_product_attention(query, key, value))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, n, N, D / n]."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def merge(self, x: Tensor) -> Tensor:  # [B, n, N, D / n] -> [B, N, D]
        """Concatenate and project what the heads found."""
        return self.proj(x.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then feed-forward, each on the normalised input and added to it."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def unpatchified(tokens: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """[B, N, p p C], a token's entries in the order row, column, channel -> [B, C, p size[0], p size[1]]."""
    rows, columns = size
    grid = tokens.unflatten(2, (patch, patch, -1)).unflatten(1, (rows, columns))  # [B, h, w, p, p, C]
    return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
