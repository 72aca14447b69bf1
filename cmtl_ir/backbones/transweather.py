"""TransWeather. Shapes: B images, H x W pixels of a map, N = H * W tokens, C channels, n heads, M reduced tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import DropPath, image_keys, pad_to, rising_rates

QUERIES = 48
HEADS = (1, 2, 4, 8)  # largest number of heads per scale, which divides its channels
FINE = 1e-6  # epsilon of the norms, but for those right after a strided convolution (PyTorch's 1e-5)


def tokens_of(x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, N, C]
    """Return pixels as tokens, row by row."""
    return x.flatten(2).transpose(1, 2)


def map_of(tokens: Tensor, size: tuple[int, int]) -> Tensor:  # [B, N, C] -> [B, C, H, W]
    """Return tokens as pixels."""
    return tokens.transpose(1, 2).unflatten(2, size)


# ------------------------------------------------------------------------------------------------------ transformer


class PatchEmbed(nn.Module):
    """A strided convolution, then a norm over channels."""

    def __init__(self, size: int, stride: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, outputs, size, stride=stride, padding=size // 2)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C', H / stride, W / stride]
        y = self.proj(x)
        return map_of(self.norm(tokens_of(y)), (y.shape[2], y.shape[3]))


class Attention(nn.Module):
    """Attention to keys and values of a map reduced `reduction` times. Queries are `queries` learned ones; 0: of x."""

    def __init__(self, channels: int, heads: int, reduction: int, queries: int) -> None:
        super().__init__()
        self.heads = heads
        if queries:
            self.task_query = nn.Parameter(torch.randn(1, queries, channels))
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:  # [B, N, C]
        query = self._heads(self.q(self._query_source(x)))
        if query.shape[2] != x.shape[1]:
            query = F.interpolate(query, (x.shape[1], query.shape[3]))  # nearest token
        source = self.norm(tokens_of(self.sr(map_of(x, size)))) if hasattr(self, "sr") else x
        key, value = (self._heads(half) for half in self.kv(source).chunk(2, dim=2))
        attention = (query @ key.mT / math.sqrt(query.shape[3])).softmax(-1)  # [B, n, N, M]
        return self.proj((attention @ value).transpose(1, 2).reshape(x.shape))

    def _query_source(self, x: Tensor) -> Tensor:
        return self.task_query.expand(len(x), -1, -1) if hasattr(self, "task_query") else x

    def _heads(self, x: Tensor) -> Tensor:  # [B, N, C] -> [B, n, N, C / n]
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class DepthwiseConv(nn.Module):
    """The depthwise convolution under the authors' name, `dwconv.dwconv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x)


class Mlp(nn.Module):
    """Feed-forward with a depthwise convolution over the hidden tokens."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:  # [B, N, C]
        return self.fc2(F.gelu(tokens_of(self.dwconv(map_of(self.fc1(x), size)))))


class Block(nn.Module):
    """Attention, then feed-forward, each computed on the normalised input and added to the input."""

    def __init__(
        self, channels: int, heads: int, reduction: int, ratio: int, drop: float, place: str, queries: int = 0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=FINE)
        self.attn = Attention(channels, heads, reduction, queries)
        self.norm2 = nn.LayerNorm(channels, eps=FINE)
        self.mlp = Mlp(channels, ratio * channels)
        self.drop_attention = DropPath(drop, f"{place}.attention")
        self.drop_mlp = DropPath(drop, f"{place}.mlp")

    def forward(self, x: Tensor, size: tuple[int, int], keys: Tensor) -> Tensor:  # [B, N, C], [B] -> [B, N, C]
        x = x + self.drop_attention(self.attn(self.norm1(x), size), keys)
        return x + self.drop_mlp(self.mlp(self.norm2(x), size), keys)


def normed_blocks(
    name: str, channels: int, heads: int, reduction: int, drops: list[float], ratio: int = 2, queries: int = 0
) -> tuple[nn.ModuleList, nn.LayerNorm]:
    """Return the blocks of one scale, one per drop rate, and the norm after them."""
    blocks = (
        Block(channels, heads, reduction, ratio, drop, f"{name}.{number}", queries) for number, drop in enumerate(drops)
    )
    return nn.ModuleList(blocks), nn.LayerNorm(channels, eps=FINE)


def through(blocks: nn.ModuleList, norm: nn.LayerNorm, x: Tensor, keys: Tensor) -> Tensor:  # [B, C, H, W]
    """Return the map after all blocks and the norm."""
    size = (x.shape[2], x.shape[3])
    tokens = tokens_of(x)
    for block in blocks:
        tokens = block(tokens, size, keys)
    return map_of(norm(tokens), size)


class Encoder(nn.Module):
    """Four scales. A second path over small patches leads from each scale to the next."""

    def __init__(self, widths: Sequence[int], drop_path: float) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.patch_embed1 = PatchEmbed(7, 4, 3, first)
        self.patch_embed2 = PatchEmbed(3, 2, first, second)
        self.patch_embed3 = PatchEmbed(3, 2, second, third)
        self.patch_embed4 = PatchEmbed(3, 2, third, fourth)
        self.mini_patch_embed1 = PatchEmbed(3, 2, first, second)
        self.mini_patch_embed2 = PatchEmbed(3, 2, second, third)
        self.mini_patch_embed3 = PatchEmbed(3, 2, third, fourth)
        self.mini_patch_embed4 = PatchEmbed(3, 2, first, fourth)
        drops = rising_rates(drop_path, 8)
        self.block1, self.norm1 = normed_blocks("Tenc.block1", first, 1, 4, drops[:2])
        self.patch_block1, self.pnorm1 = normed_blocks("Tenc.patch_block1", second, 1, 4, drops[:1])
        self.block2, self.norm2 = normed_blocks("Tenc.block2", second, 2, 2, drops[2:4])
        self.patch_block2, self.pnorm2 = normed_blocks("Tenc.patch_block2", third, 2, 2, drops[2:3])
        self.block3, self.norm3 = normed_blocks("Tenc.block3", third, 4, 2, drops[4:6])
        self.patch_block3, self.pnorm3 = normed_blocks("Tenc.patch_block3", fourth, 2, 2, drops[4:5])
        self.block4, self.norm4 = normed_blocks("Tenc.block4", fourth, 4, 1, drops[6:])
        self.apply(_initialise)

    def forward(self, x: Tensor, keys: Tensor) -> list[Tensor]:  # -> maps of 1/4, 1/8, 1/16 and 1/32 of the size
        t1 = self.patch_embed1(x)
        p = through(self.patch_block1, self.pnorm1, self.mini_patch_embed1(t1), keys)
        f1 = through(self.block1, self.norm1, t1, keys)
        t2 = p + self.patch_embed2(f1)
        p = through(self.patch_block2, self.pnorm2, self.mini_patch_embed2(t2), keys)
        f2 = through(self.block2, self.norm2, t2, keys)
        t3 = p + self.patch_embed3(f2)
        p = through(self.patch_block3, self.pnorm3, self.mini_patch_embed3(t3), keys)
        f3 = through(self.block3, self.norm3, t3, keys)
        t4 = p + self.patch_embed4(f3)
        return [f1, f2, f3, through(self.block4, self.norm4, t4, keys)]


class Decoder(nn.Module):
    """Attention of learned weather queries to the coarsest map."""

    def __init__(self, coarsest: int, drop_path: float) -> None:
        super().__init__()
        self.patch_embed1 = PatchEmbed(3, 2, coarsest, coarsest)
        drops = [drop_path * number / 15 for number in range(3)]
        self.block1, self.norm1 = normed_blocks("Tdec.block1", coarsest, 8, 1, drops, ratio=4, queries=QUERIES)
        self.apply(_initialise)

    def forward(self, coarsest: Tensor, keys: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, H / 2, W / 2]
        return through(self.block1, self.norm1, self.patch_embed1(coarsest), keys)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        assert module.bias is not None
        nn.init.zeros_(module.bias)


# -------------------------------------------------------------------------------------------------------------- tail


class Conv(nn.Module):
    """A 3x3 convolution under the authors' name, `conv2d`."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2d(x)


class Up(nn.Module):
    """A transposed convolution to twice the size under the authors' name, `conv2d`."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv2d = nn.ConvTranspose2d(channels, outputs, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2d(x)


class Residual(nn.Module):
    """x + 0.1 conv relu conv x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels)
        self.conv2 = Conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * self.conv2(F.relu(self.conv1(x)))


def _crop(x: Tensor, like: Tensor) -> Tensor:
    return x[:, :, : like.shape[2], : like.shape[3]]


class Tail(nn.Module):
    """Upsamples the coarsest map to the image's size and adds the encoder's map at each scale."""

    def __init__(self, widths: Sequence[int], with_decoder: bool) -> None:
        super().__init__()
        first, second, third, fourth = widths
        if with_decoder:
            self.convd32x = Up(fourth, fourth)
        self.convd16x = Up(fourth, third)
        self.dense_4 = nn.Sequential(Residual(third))
        self.convd8x = Up(third, second)
        self.dense_3 = nn.Sequential(Residual(second))
        self.convd4x = Up(second, first)
        self.dense_2 = nn.Sequential(Residual(first))
        self.convd2x = Up(first, 16)
        self.dense_1 = nn.Sequential(Residual(16))
        self.convd1x = Up(16, 8)
        self.conv_output = Conv(8, 3)

    def forward(self, maps: list[Tensor], decoded: Tensor | None) -> Tensor:  # -> [B, 8, H, W]
        f1, f2, f3, f4 = maps
        # Half of an odd side is rounded up, so twice that is one pixel too long.
        u = f4 if decoded is None else f4 + _crop(self.convd32x(decoded), f4)
        u = f3 + self.dense_4(_crop(self.convd16x(u), f3))
        u = f2 + self.dense_3(self.convd8x(u))
        u = f1 + self.dense_2(self.convd4x(u))
        return self.convd1x(self.dense_1(self.convd2x(u)))


class TransWeather(nn.Module):
    """TransWeather: Transformer-based Restoration of Images Degraded by Adverse Weather (Valanarasu et al., CVPR 2022).

    Images x in [0, 1] enter the network as 2x - 1, as in the authors' loader. The output is a tanh, not a residual. Any
    H and W: reflected right and bottom up to a multiple of 16 and at least 48 (the border is repeated if the image
    is too small to reflect) and cropped after. Up to 64 x 64 pixels the decoder sees one token, and its queries have
    no effect and no gradient, so train on larger patches. `decoder: false` is the authors' TransWeather_base.

    Departures: the authors resize to multiples of 16 instead of padding. Stochastic depth depends on the sample's
    pixels (see DropPath).
    """

    couples_samples = False
    latent_module: ClassVar[str] = "Tenc.norm4"
    unused: tuple[str, ...] = ("Tenc.mini_patch_embed4.*", "conv*.conv_output.*")

    def __init__(
        self, *, widths: Sequence[int] = (64, 128, 320, 512), decoder: bool = True, drop_path: float = 0.1
    ) -> None:
        super().__init__()
        if len(widths) != 4 or any(width % heads for width, heads in zip(widths, HEADS, strict=True)):
            raise ValueError(f"widths {widths}: give four multiples of {', '.join(map(str, HEADS))} (the heads)")
        self.Tenc = Encoder(widths, drop_path)
        if decoder:
            self.Tdec = Decoder(widths[-1], drop_path)
        self.tail_name = "convtail" if decoder else "convproj"
        self.add_module(self.tail_name, Tail(widths, decoder))
        self.clean = Conv(8, 3)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        height, width = x.shape[-2:]
        keys = image_keys(x)
        maps = self.Tenc(pad_to(2 * x - 1, 16, "reflect", smallest=48), keys)
        decoded = self.Tdec(maps[-1], keys) if hasattr(self, "Tdec") else None
        tail = self.get_submodule(self.tail_name)
        return torch.tanh(self.clean(tail(maps, decoded)))[:, :, :height, :width]
