"""ProRes. Shapes: B images, h x w tokens of an image, D channels, n heads of d = D / n, p x p pixels of a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import ChannelNorm, DropPath, image_keys, pad_to, rising_rates
from cmtl_ir.backbones._vit import Attention, Mlp, PatchEmbed, unpatchified

PRETRAINED_GRID = 14  # tokens a side of the masked autoencoder whose positions it starts from
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
FINE = 1e-6


def _distances(table: Tensor, side: int) -> Tensor:  # [2S - 1, d] -> [side, side, d]
    """Vectors by the distance of query and key, interpolated where the grid has another side than the table."""
    if len(table) != 2 * side - 1:
        table = F.interpolate(table.T[None], 2 * side - 1, mode="linear")[0].T
    place = torch.arange(side, device=table.device)
    return table[place[:, None] - place + side - 1]


class RelativeAttention(Attention):
    """Attention between all tokens, or inside windows, with decomposed relative positions."""

    def __init__(self, channels: int, heads: int, side: int, window: int) -> None:
        super().__init__(channels, heads)
        self.window = window
        count = 2 * (window or side) - 1
        self.rel_pos_h = nn.Parameter(torch.zeros(count, channels // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(count, channels // heads))

    def forward(self, x: Tensor) -> Tensor:  # [B, h, w, D]
        return self._windowed(x) if self.window else self._attended(x)

    def _attended(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[1:3]
        query, key, value = self.split(x.flatten(1, 2))
        grid = query.unflatten(2, (rows, columns))  # [B, n, h, w, d]
        vertical = torch.einsum("bnhwd,hkd->bnhwk", grid, _distances(self.rel_pos_h, rows).to(grid.dtype))
        horizontal = torch.einsum("bnhwd,wkd->bnhwk", grid, _distances(self.rel_pos_w, columns).to(grid.dtype))
        bias = (vertical[..., :, None] + horizontal[..., None, :]).flatten(4).flatten(2, 3)  # [B, n, hw, hw]
        return self.merge(F.scaled_dot_product_attention(query, key, value, attn_mask=bias)).view(x.shape)

    def _windowed(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[1:3]
        side = self.window
        padded = F.pad(x, (0, 0, 0, -columns % side, 0, -rows % side))
        cut = padded.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)  # [B, h', w', side, side, D]
        y = self._attended(cut.flatten(0, 2)).view(cut.shape)
        return y.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :rows, :columns]


class Block(nn.Module):
    """Attention, then feed-forward, each on the normalised input and added to it, or dropped in training."""

    def __init__(self, channels: int, heads: int, side: int, window: int, rate: float, place: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=FINE)
        self.attn = RelativeAttention(channels, heads, side, window)
        self.norm2 = nn.LayerNorm(channels, eps=FINE)
        self.mlp = Mlp(channels)
        self.drop1 = DropPath(rate, f"{place}.attn")
        self.drop2 = DropPath(rate, f"{place}.mlp")

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:  # [B, h, w, D], [B]
        x = x + self.drop1(self.attn(self.norm1(x)), keys)
        return x + self.drop2(self.mlp(self.norm2(x)), keys)


class ProRes(nn.Module):
    """ProRes: Exploring Degradation-aware Visual Prompt for Universal Image Restoration (Ma et al., arXiv 2023).

    A plain vision transformer that learns what to do from a picture added to its input. Each `task` [B] has a learned
    prompt, resized to the image; without `task` the mean of all prompts is added. `prompt` [B, 3, h, w] replaces it.
    Any H and W: reflected right and bottom up to a multiple of `patch` and cropped after; positions are interpolated
    where the image is not `image_size` pixels large. No skip: the output is the image itself.

    `windowed` lists blocks that attend inside windows of `window` tokens; the authors' files have none, because their
    constructor reads the indices wrongly.

    Departures: the authors' prompts are files made by another network, here they are learned with the net. Their
    weights (MIT) have none: `tasks: 0` loads them. Stochastic depth reads its coin off the sample's pixels.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "norm"

    def __init__(
        self,
        *,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        patch: int = 16,
        image_size: int = 448,
        head_width: int = 64,
        windowed: Sequence[int] = (),
        window: int = 14,
        drop_path: float = 0.1,
        tasks: int = 7,
        prompt_size: int = 448,
    ) -> None:
        super().__init__()
        if depth % 4:
            raise ValueError(f"depth is {depth}: the head reads four equidistant blocks, it must be a multiple of 4")
        self.patch = patch
        self.segment_token_x = nn.Parameter(0.02 * torch.randn(1, 1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, PRETRAINED_GRID**2 + 1, width))
        self.patch_embed = PatchEmbed(patch, width)
        rates = rising_rates(drop_path, depth)
        self.blocks = nn.ModuleList(
            Block(width, heads, image_size // patch, window if i in windowed else 0, rates[i], f"blocks.{i}")
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=FINE)
        self.decoder_embed = nn.Linear(4 * width, patch**2 * head_width)
        self.decoder_pred = nn.Sequential(
            nn.Conv2d(head_width, head_width, 3, padding=1),
            ChannelNorm(head_width, eps=FINE),
            nn.GELU(),
            nn.Conv2d(head_width, 3, 1),
        )
        if tasks:
            self.prompts = nn.Parameter(0.02 * torch.randn(tasks, 3, prompt_size, prompt_size))

    def forward(self, x: Tensor, task: Tensor | None = None, prompt: Tensor | None = None) -> Tensor:
        """Restore [B, 3, H, W]. Raises ValueError if there is neither a prompt nor a learned one."""
        height, width = x.shape[-2:]
        padded = pad_to(x, self.patch, "reflect")
        mean, deviation = (x.new_tensor(one)[:, None, None] for one in (MEAN, DEVIATION))
        picture = self._prompt(x, task) if prompt is None else prompt
        if picture.shape[-2:] != padded.shape[-2:]:
            picture = F.interpolate(picture, padded.shape[-2:], mode="bilinear")
        y = self.network((padded - mean) / deviation + picture)
        return (y * deviation + mean)[:, :, :height, :width]

    def network(self, x: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W], sides multiples of `patch`
        """Apply the transformer only: from normalized images with a prompt to normalized images."""
        keys = image_keys(x)
        h = self.patch_embed(x).permute(0, 2, 3, 1)
        h = h + self.segment_token_x + self._positions((h.shape[1], h.shape[2]))
        read: list[Tensor] = []
        for number, block in enumerate(self.blocks, 1):
            h = block(h, keys)
            if number % (len(self.blocks) // 4) == 0:
                read.append(self.norm(h))
        tokens = self.decoder_embed(torch.cat(read, dim=3)).flatten(1, 2)
        return self.decoder_pred(unpatchified(tokens, self.patch, (h.shape[1], h.shape[2])))

    def _positions(self, size: tuple[int, int]) -> Tensor:  # [1, h, w, D]
        grid = self.pos_embed[:, 1:].unflatten(1, (PRETRAINED_GRID, PRETRAINED_GRID))
        if size == (PRETRAINED_GRID, PRETRAINED_GRID):
            return grid
        return F.interpolate(grid.permute(0, 3, 1, 2), size, mode="bicubic").permute(0, 2, 3, 1)

    def _prompt(self, x: Tensor, task: Tensor | None) -> Tensor:  # [B, 3, S, S]
        if not hasattr(self, "prompts"):
            raise ValueError("ProRes without learned prompts (tasks: 0) needs model(x, prompt=picture)")
        if task is None:
            return self.prompts.mean(0, keepdim=True).expand(len(x), -1, -1, -1)
        return self.prompts[task]
