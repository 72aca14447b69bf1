"""MambaIRUNet: the levels of Restormer with the blocks of MambaIR. Shapes: B images, C channels, H x W pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cmtl_ir.backbones._four_levels import FourLevels
from cmtl_ir.backbones._layers import image_keys
from cmtl_ir.backbones._scan import ScanKind
from cmtl_ir.backbones._state_space import StateSpaceBlock, check_width


class Level(nn.Sequential):
    """Blocks of one level, in sequence: [B, C, H, W] -> [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        h, keys = x.permute(0, 2, 3, 1), image_keys(x)
        for block in self:
            h = block(h, keys)
        return h.permute(0, 3, 1, 2)


class MambaIRUNet(FourLevels):
    """MambaIR: A Simple Baseline for Image Restoration with State-Space Model (Guo et al., ECCV 2024).

    arXiv 2402.15648. The U-shaped variant for real denoising: the four levels of Restormer with selective scans in
    place of attention. The defaults are the published network of 26.8 million parameters. `expansion` 2 is the default
    of the authors' class. Any H and W: reflected right and bottom up to a multiple of 8 (the border repeated where the
    image is too small to reflect) and cropped after. `scan: loop` is the slow reference of the selective scan. The
    authors' weights are under Apache-2.0.

    Departure: the scan is written in PyTorch, where the authors call the CUDA kernel of mamba_ssm. It stays in float32
    under autocast, as theirs does. Raises ValueError for a width below 30 or levels that are not four.
    """

    def __init__(
        self,
        *,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinement_blocks: int = 4,
        states: int = 16,
        expansion: float = 1.5,
        scan: ScanKind = "blocked",
    ) -> None:
        super().__init__()
        check_width(width)
        if len(blocks) != 4:
            raise ValueError(f"blocks has {len(blocks)} numbers: give four, one per level")
        counts = (*blocks, refinement_blocks)

        def level(channels: int, number: int) -> Level:
            return Level(*(StateSpaceBlock(channels, states, expansion, scan=scan) for _ in range(counts[number])))

        self.make_encoder(width, level)
        self.latent = level(8 * width, 3)
        self.make_decoder(width, level)
