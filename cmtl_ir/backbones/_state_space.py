"""Blocks of MambaIR. Shapes: B images, H x W pixels, L = H * W, C channels, I inner channels, N states, R ranks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._channel_attention import ChannelAttentionBlock
from cmtl_ir.backbones._layers import DropPath
from cmtl_ir.backbones._scan import ScanKind, selective_scan

DIRECTIONS = 4  # row by row, column by column, and both reversed
SQUEEZE = 30  # a block of C channels has C // 30 of them inside its channel attention
STEPS = (0.001, 0.1)  # range of the first values of delta
SMALLEST_STEP = 1e-4


def check_width(width: int) -> None:
    """Raise ValueError if no channel would be left inside the channel attention."""
    if width < SQUEEZE:
        raise ValueError(f"width {width} is too small: the channel attention has width // {SQUEEZE} channels")


def _wide(x: Tensor) -> Tensor:
    """x in float32 at least: a scan in lower precision loses the state, so autocast stops here."""
    return x if x.dtype == torch.float64 else x.float()


class SelectiveScan2D(nn.Module):
    """SS2D: selective scans over the pixels in four directions, summed and gated."""

    def __init__(self, channels: int, states: int, expansion: float, scan: ScanKind) -> None:
        super().__init__()
        inner, self.rank, self.states, self.scan = int(channels * expansion), math.ceil(channels / 16), states, scan
        self.x_proj_weight = nn.Parameter(torch.empty(DIRECTIONS, self.rank + 2 * states, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, self.rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.A_logs = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(DIRECTIONS * inner, 1))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS * inner))
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self._initialise(inner)

    @torch.no_grad()
    def _initialise(self, inner: int) -> None:
        self.x_proj_weight.uniform_(-(inner**-0.5), inner**-0.5)
        self.dt_projs_weight.uniform_(-(self.rank**-0.5), self.rank**-0.5)
        low, high = map(math.log, STEPS)
        step = torch.empty_like(self.dt_projs_bias).uniform_(low, high).exp().clamp(min=SMALLEST_STEP)
        self.dt_projs_bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus of it is `step`

    def forward(self, x: Tensor) -> Tensor:  # [B, H, W, C]
        scanned, gate = self.in_proj(x).chunk(2, dim=-1)
        scanned = F.silu(self.conv2d(scanned.permute(0, 3, 1, 2)))
        mixed = self._merged(self._scanned(self._sequences(scanned)), scanned.shape[2:])
        return self.out_proj(self.out_norm(mixed.permute(0, 2, 3, 1)) * F.silu(gate))

    def _sequences(self, x: Tensor) -> Tensor:  # [B, I, H, W] -> [B, 4, I, L]
        forward = torch.stack([x.flatten(2), x.mT.flatten(2)], dim=1)
        return torch.cat([forward, forward.flip(3)], dim=1)

    def _scanned(self, u: Tensor) -> Tensor:  # [B, 4, I, L]
        batch, inner = len(u), u.shape[2]
        ranks, b, c = torch.matmul(self.x_proj_weight, u).split([self.rank, self.states, self.states], dim=2)
        delta = F.softplus(_wide(torch.matmul(self.dt_projs_weight, ranks)) + self.dt_projs_bias[..., None])
        decay = -self.A_logs.exp().unflatten(0, (DIRECTIONS, inner))
        # One copy per sample costs little and keeps the gradients of different samples separate.
        decay, u = decay.expand(batch, -1, -1, -1).flatten(0, 1), _wide(u)
        y = selective_scan(
            u.flatten(0, 1), delta.flatten(0, 1), decay, _wide(b).flatten(0, 1), _wide(c).flatten(0, 1), self.scan
        )
        return y.unflatten(0, (batch, DIRECTIONS)) + u * self.Ds.unflatten(0, (DIRECTIONS, inner))[..., None]

    def _merged(self, y: Tensor, size: torch.Size) -> Tensor:  # [B, 4, I, L] -> [B, I, H, W]
        rows, columns = (y[:, :2] + y[:, 2:].flip(3)).unbind(1)
        return rows.unflatten(2, size) + columns.unflatten(2, size[::-1]).mT


class StateSpaceBlock(nn.Module):
    """SS2D, then convolutions with channel attention; each residual branch has a learned scale on its skip."""

    def __init__(
        self,
        channels: int,
        states: int,
        expansion: float,
        *,
        light: bool = False,
        drop: float = 0.0,
        place: str = "",
        scan: ScanKind = "blocked",
    ) -> None:
        super().__init__()
        self.skip_scale = nn.Parameter(torch.ones(channels))
        self.skip_scale2 = nn.Parameter(torch.ones(channels))
        self.ln_1 = nn.LayerNorm(channels)
        self.self_attention = SelectiveScan2D(channels, states, expansion, scan)
        self.conv_blk = ChannelAttentionBlock(channels, channels // (2 if light else 3), channels // SQUEEZE, light)
        self.ln_2 = nn.LayerNorm(channels)
        self.drop_path = DropPath(drop, place)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:  # [B, H, W, C], [B] -> [B, H, W, C]
        x = x * self.skip_scale + self.drop_path(self.self_attention(self.ln_1(x)), keys)
        convolved = self.conv_blk(self.ln_2(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x * self.skip_scale2 + convolved
