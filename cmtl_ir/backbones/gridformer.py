"""GridFormer. Shapes: B images, C channels, H x W pixels, r sampling rate; X[i, j] is the map of row i and column j."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._four_levels import Downsample, PatchEmbed, Upsample
from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones._transposed_attention import GatedFeedForward, attend_channels, depthwise
from cmtl_ir.backbones.restormer import Norm

ROWS, COLUMNS = 3, 6
SAMPLING_IN_GRID = 2
SIDE_EXPANSION = 2.66  # of the feed-forward in extractors and reconstructors


class CompactAttention(nn.Module):
    """Channel attention on every r-th pixel; the attention map of one half of the channels reads the other's values."""

    def __init__(self, channels: int, heads: int, rate: int) -> None:
        super().__init__()
        self.rate = rate
        half = channels // 2
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(half, 3 * half, 1, bias=False)
        self.LocalProp = nn.ConvTranspose2d(channels, channels, rate, stride=rate, groups=channels, bias=False)
        self.qkv_dwconv = depthwise(3 * half, 3, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        height, width = x.shape[-2:]
        first, second = x[:, :, :: self.rate, :: self.rate].chunk(2, dim=1)
        query1, key1, value1 = self.qkv_dwconv(self.qkv(first)).chunk(3, dim=1)
        query2, key2, value2 = self.qkv_dwconv(self.qkv(second)).chunk(3, dim=1)
        crossed1 = attend_channels(query1, key1, value2, self.temperature)
        crossed2 = attend_channels(query2, key2, value1, self.temperature)
        spread = self.LocalProp(torch.cat([crossed1, crossed2], dim=1))[:, :, :height, :width]
        return self.project_out(spread)


class CompactBlock(nn.Module):
    """A Restormer block with compact attention."""

    def __init__(self, channels: int, heads: int, expansion: float, rate: int) -> None:
        super().__init__()
        self.norm1 = Norm(channels, "WithBias")
        self.attn = CompactAttention(channels, heads, rate)
        self.norm2 = Norm(channels, "WithBias")
        self.ffn = GatedFeedForward(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Blocks(nn.Module):
    """Blocks under the authors' name, `transformer`."""

    def __init__(self, channels: int, count: int, heads: int, expansion: float, rate: int) -> None:
        super().__init__()
        self.transformer = nn.Sequential(*(CompactBlock(channels, heads, expansion, rate) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.transformer(x)


class DenseLayer(nn.Module):
    """Append `growth` channels to the features."""

    def __init__(self, channels: int, growth: int, count: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.Transformer = Blocks(channels, count, heads, expansion, SAMPLING_IN_GRID)
        self.conv = nn.Conv2d(channels, growth, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C + growth, H, W]
        return torch.cat([x, F.relu(self.conv(self.Transformer(x)))], dim=1)


class ResidualDense(nn.Module):
    """R: dense layers, a convolution back to the input's channels, and the input."""

    def __init__(
        self, channels: int, count: int, heads: int, expansion: float, *, growth: int, dense_layers: int
    ) -> None:
        super().__init__()
        widths = [channels + number * growth for number in range(dense_layers)]
        self.dense_layers = nn.Sequential(*(DenseLayer(width, growth, count, heads, expansion) for width in widths))
        self.conv_1x1 = nn.Conv2d(channels + dense_layers * growth, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return F.relu(self.conv_1x1(self.dense_layers(x))) + x


class Extractor(nn.Module):
    """Features of a smaller copy of the image: [B, 3, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int, count: int, rate: int) -> None:
        super().__init__()
        self.conv_in = PatchEmbed(channels)
        self.tbm_in = Blocks(channels, count, 1, SIDE_EXPANSION, rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.tbm_in(self.conv_in(x))


class Reconstructor(nn.Module):
    """The residual of a smaller copy of the image: [B, C, H, W] -> [B, 3, H, W]."""

    def __init__(self, channels: int, count: int, rate: int) -> None:
        super().__init__()
        self.tbm_out = Blocks(channels, count, 1, SIDE_EXPANSION, rate)
        self.conv_out = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.tbm_out(x))


class GridFormer(nn.Module):
    """GridFormer: Residual Dense Transformer with Grid Structure in Adverse Weather (Wang et al., IJCV 2024).

    Three rows (full, half and quarter size) by six columns of residual dense transformer blocks; information flows
    right, down in the first three columns and up in the last three. Returns three restored images: quarter, half and
    full size, the last being the result. All three are trained with weight 1 against the target halved bilinearly.
    `task` is not read. Any H and W: reflected right and bottom up to a multiple of 4 and cropped after (the smaller
    images to ceil(H / 2), ceil(H / 4), likewise the widths).

    `width`, `blocks`, `heads` and `sampling` are per row; with `blocks=[1, 2, 4]` the settings are those of all
    released option files. As in the authors' code, `sampling` is the sampling rate in the extractors and
    reconstructors only; in the grid it is the expansion of the feed-forward, and the sampling rate is 2. The authors
    publish no licence.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "TBM_module.2_2"
    output_weights: ClassVar[tuple[float, ...]] = (1.0, 1.0, 1.0)
    restored_output: ClassVar[Literal["first", "last"]] = "last"

    def __init__(
        self,
        *,
        width: int = 48,
        blocks: Sequence[int] = (2, 3, 4),
        heads: Sequence[int] = (2, 4, 8),
        sampling: Sequence[int] = (4, 2, 2),
        growth: int = 16,
        dense_layers: int = 3,
    ) -> None:
        super().__init__()
        if not len(blocks) == len(heads) == len(sampling) == ROWS:
            raise ValueError(f"blocks, heads and sampling need {ROWS} numbers each, one per row")
        widths = [width << row for row in range(ROWS)]
        dense = partial(ResidualDense, growth=growth, dense_layers=dense_layers)
        self.coefficient = nn.Parameter(torch.ones(ROWS, COLUMNS, 2, widths[-1]))
        self.upsample_module = nn.ModuleDict(
            {f"{row}_{column}": Upsample(widths[row + 1]) for row in (1, 0) for column in (3, 4, 5)}
        )
        self.downsample_module = nn.ModuleDict(
            {f"{row}_{column}": Downsample(widths[row]) for row in (0, 1) for column in (0, 1, 2)}
        )
        side = [(2 * widths[row], blocks[row], sampling[row]) for row in (0, 1)]
        self.extractor_module = nn.ModuleDict({f"{row}_0": Extractor(*side[row]) for row in (0, 1)})
        self.reconstruct_module = nn.ModuleDict({f"{row}_5": Reconstructor(*side[row]) for row in (1, 0)})
        self.conv_in = PatchEmbed(width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)
        self.TBM_in = dense(width, blocks[0], 1, sampling[0])
        self.TBM_out = dense(width, blocks[0], 1, sampling[0])
        self.TBM_module = nn.ModuleDict(
            {
                f"{row}_{column}": dense(widths[row], blocks[row], heads[row], sampling[row])
                for row in range(ROWS)
                for column in range(COLUMNS - 1)
            }
        )

    def forward(self, x: Tensor, task: Tensor | None = None) -> list[Tensor]:
        """[B, 3, H, W] -> images of quarter, half and full size."""
        height, width = x.shape[-2:]
        images = [pad_to(x, 4, "reflect")]
        for _ in range(ROWS - 1):
            images.append(F.interpolate(images[-1], scale_factor=0.5, mode="bilinear"))
        column = self._first_column(images)
        for number in (1, 2):
            column = self._downward(column, number)
        for number in (3, 4, 5):
            column = self._upward(column, number)
        outputs = [
            self.reconstruct_module["1_5"](column[2]) + images[2],
            self.reconstruct_module["0_5"](column[1]) + images[1],
            self.conv_out(self.TBM_out(column[0])) + images[0],
        ]
        sizes = [(-(-height // scale), -(-width // scale)) for scale in (4, 2, 1)]
        return [y[:, :, :rows, :columns] for y, (rows, columns) in zip(outputs, sizes, strict=True)]

    def _first_column(self, images: list[Tensor]) -> list[Tensor]:
        column = [self.TBM_in(self.conv_in(images[0]))]
        for row in (0, 1):
            down = self.downsample_module[f"{row}_0"](column[row])
            column.append(down + self.extractor_module[f"{row}_0"](images[row + 1]))
        return column

    def _downward(self, before: list[Tensor], number: int) -> list[Tensor]:
        column = [self._right(before, 0, number)]
        for row in (1, 2):
            down = self.downsample_module[f"{row - 1}_{number}"](column[row - 1])
            column.append(self._joined(self._right(before, row, number), down, row, number))
        return column

    def _upward(self, before: list[Tensor], number: int) -> list[Tensor]:
        column = [self._right(before, 2, number)]  # from the last row to the first
        for row in (1, 0):
            up = self.upsample_module[f"{row}_{number}"](column[-1])
            column.append(self._joined(self._right(before, row, number), up, row, number))
        return column[::-1]

    def _right(self, before: list[Tensor], row: int, number: int) -> Tensor:
        return self.TBM_module[f"{row}_{number - 1}"](before[row])

    def _joined(self, right: Tensor, vertical: Tensor, row: int, number: int) -> Tensor:
        first, second = self.coefficient[row, number, :, : right.shape[1], None, None]
        return right * first + vertical * second
