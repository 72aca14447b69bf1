"""The attentions of DA-CLIP's conditional U-Net. Shapes: B images, C channels, H x W pixels, N = H W tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._gain import GainNorm

HEAD = 32  # channels of a head
LINEAR_HEADS = 4


class LinearAttention(nn.Module):
    """LA: attention between channels, whose cost is linear in H x W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = LINEAR_HEADS * HEAD
        self.to_qkv = nn.Conv2d(channels, 3 * hidden, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(hidden, channels, 1), GainNorm(channels))

    def forward(self, x: Tensor, content: Tensor | None) -> Tensor:  # [B, C, H, W]
        height, width = x.shape[-2:]
        query, key, value = self.to_qkv(x).flatten(2).unflatten(1, (3, LINEAR_HEADS, HEAD)).unbind(1)  # [B, 4, 32, N]
        query = query.softmax(2) * HEAD**-0.5
        context = key.softmax(3) @ (value / (height * width)).mT  # [B, 4, 32, 32]
        return self.to_out((context.mT @ query).flatten(1, 2).unflatten(2, (height, width)))


class Attention(nn.Module):
    """Attention of tokens to themselves, or to a single token of context."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:  # [B, N, C]
        query, key, value = (
            layer(x).unflatten(2, (-1, HEAD)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        return self.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    def of_one_token(self, context: Tensor) -> Tensor:  # [B, context] -> [B, 1, C]
        """What every query gets: the softmax over one key is 1, so queries and keys have no effect."""
        return self.to_out(self.to_v(context))[:, None]


class GatedProjection(nn.Module):
    """Twice as many channels, of which the second half gates the first."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=2)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """The feed-forward third of a block under the authors' name, `net`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 4 * channels
        self.net = nn.Sequential(GatedProjection(channels, hidden), nn.Identity(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Attention between tokens, attention to the content vector, feed-forward."""

    def __init__(self, channels: int, vector: int) -> None:
        super().__init__()
        self.attn1 = Attention(channels, channels)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, vector)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, content: Tensor) -> Tensor:  # [B, N, C], [B, vector]
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2.of_one_token(content)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """ST: a transformer block on pixels as tokens, around a skip. Starts as the identity."""

    def __init__(self, channels: int, vector: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, vector)])
        self.proj_out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, content: Tensor | None) -> Tensor:  # [B, C, H, W], [B, vector]
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, content)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[-2:]))
