"""The transformer of IPT. Shapes: B images, N tokens, d channels of a token, n feature maps of S x S pixels."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention without biases, with the keys of nn.MultiheadAttention."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.out_proj = nn.Linear(channels, channels, bias=False)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # [B, N, d] each
        weights = self.in_proj_weight.chunk(3)
        parts = (F.linear(x, weight) for x, weight in zip((query, key, value), weights, strict=True))
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each on the normalised input and added to it."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(channels, heads)
        self.linear1 = nn.Linear(channels, 4 * channels)
        self.linear2 = nn.Linear(4 * channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, N, d]
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, normed)
        return x + self.linear2(F.relu(self.linear1(self.norm2(x))))


class DecoderLayer(nn.Module):
    """Self-attention and attention on the encoder's tokens, both asked with the task's query, then feed-forward."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(channels, heads)
        self.multihead_attn = Attention(channels, heads)
        self.linear1 = nn.Linear(channels, 4 * channels)
        self.linear2 = nn.Linear(4 * channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, encoded: Tensor, query: Tensor) -> Tensor:  # [B, N, d] each
        normed = self.norm1(x)
        x = x + self.self_attn(normed + query, normed + query, normed)
        x = x + self.multihead_attn(self.norm2(x) + query, encoded, encoded)
        return x + self.linear2(F.relu(self.linear1(self.norm3(x))))


class Encoder(nn.Module):
    """Layers in sequence. All start as copies of one, as the authors' do."""

    def __init__(self, layer: EncoderLayer, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:  # [B, N, d]
        for layer in self.layers:
            x = layer(x)
        return x


class Decoder(nn.Module):
    """Layers in sequence, from the encoder's tokens. All start as copies of one, as the authors' do."""

    def __init__(self, layer: DecoderLayer, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(count))

    def forward(self, encoded: Tensor, query: Tensor) -> Tensor:  # [B, N, d] each
        x = encoded
        for layer in self.layers:
            x = layer(x, encoded, query)
        return x


class Position(nn.Module):
    """A learned vector for every place under the authors' name, `pe`."""

    position_ids: Tensor

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("position_ids", torch.arange(tokens)[None])
        self.pe = nn.Embedding(tokens, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, N, d]
        return x + self.pe.weight


class QueryTransformer(nn.Module):
    """Patches of the features as tokens, an encoder, and a decoder that the task's query asks."""

    def __init__(self, features: int, size: int, patch: int, heads: int, layers: int, tasks: int) -> None:
        super().__init__()
        self.patch, channels, tokens = patch, features * patch**2, (size // patch) ** 2
        self.linear_encoding = nn.Linear(channels, channels)
        self.mlp_head = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.Identity(), nn.ReLU(), nn.Linear(4 * channels, channels)
        )
        self.query_embed = nn.Embedding(tasks, tokens * channels)
        self.encoder = Encoder(EncoderLayer(channels, heads), layers)
        self.decoder = Decoder(DecoderLayer(channels, heads), layers)
        self.position_encoding = Position(tokens, channels)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:  # [B, n, S, S], [B] -> [B, n, S, S]
        tokens = F.unfold(x, self.patch, stride=self.patch).mT
        tokens = self.position_encoding(tokens + self.linear_encoding(tokens))
        query = self.query_embed(task).unflatten(1, tokens.shape[1:])
        tokens = self.decoder(self.encoder(tokens), query)
        tokens = tokens + self.mlp_head(tokens)
        return F.fold(tokens.mT, x.shape[2:], self.patch, stride=self.patch)
