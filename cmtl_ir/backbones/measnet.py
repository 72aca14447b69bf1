"""MEASNet. Shapes: B images, C channels of a level, H x W pixels, E = 6 experts per pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cmtl_ir.backbones._frozen_statistics import BatchNormNetwork
from cmtl_ir.backbones._layers import image_keys, pad_to
from cmtl_ir.backbones._measnet_bands import FrequencyBlock, FrequencyExperts
from cmtl_ir.backbones._measnet_pixels import Routing, TaskExperts, TaskPrompt
from cmtl_ir.backbones.restormer import Restormer

SMALLEST = 64  # the far context halves a quarter of the image's side four times


class MEASNet(BatchNormNetwork, Restormer):
    """Multi-Expert Adaptive Selection for All-in-One Image Restoration (Yu, Zhou, Li, Zhu, 2024, arXiv 2407.19139).

    Restormer with experts that each pixel of the first features chooses under a task prompt, experts for the high and
    the low frequencies of the decoder's features, and the image's spectrum as a guide. `task` is not read. Any H and
    W: reflected right and bottom up to a multiple of 8 and at least 64 (the border repeated where the image is too
    small to reflect) and cropped after.

    In training three BatchNorms of pooled vectors couple the samples of a batch, which must be two or more.
    `frozen_statistics` keeps them at their running statistics, so that row gradients exist.

    `forward_features` also returns "importance" and "load", [B, 3, E]: sums over the pixels of a sample, at each of
    three levels, of the gates and of the probabilities of being chosen. The authors' balance loss sums both over the
    batch and adds var / (mean^2 + 1e-10) over the experts of each; per sample it needs no batch sums, which is a
    departure. The experts of the levels 2 and 3 have no other effect, so `forward` does not run them.

    Departures: the router's noise is a function of the image's pixels (`router_noise`, in training only), and experts
    are chosen per sample in any batch. The authors publish no licence.
    """

    unused: tuple[str, ...] = (
        "block?.initial_conv.*",
        "block?.score_generator.*",
        "block?.rate_adaptive_conv.*",
        "fe_mee?.spilit.lamb_?",
        "fe_mee?.*_block.norm_2.*",
        # Read by `forward_features` only.
        "stpg_g_mese[23].*",
    )

    def __init__(
        self,
        *,
        width: int = 48,
        blocks: Sequence[int] = (4, 4, 6, 8),
        refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        router_noise: bool = True,
        frozen_statistics: bool = False,
    ) -> None:
        """`width` is a multiple of 8, for the groups of the frequency split."""
        if width % 8:
            raise ValueError(f"width {width} is not a multiple of 8")
        super().__init__(
            width=width, blocks=blocks, refinement_blocks=refinement_blocks, heads=heads, expansion=expansion
        )
        self.router_noise = router_noise
        if not router_noise:
            self.unused = (*self.unused, "stpg_g_mese1.model.w_n")
        self.task_prompt = TaskPrompt()
        self.stpg_g_mese1 = TaskExperts(width, expansion, "1")
        self.stpg_g_mese2 = TaskExperts(2 * width, expansion, "2")
        self.stpg_g_mese3 = TaskExperts(4 * width, expansion, "3")
        self.block1 = FrequencyBlock(8 * width, heads[2])
        self.block2 = FrequencyBlock(4 * width, heads[2])
        self.block3 = FrequencyBlock(2 * width, heads[2])
        self.fe_mee1 = FrequencyExperts(4 * width)
        self.fe_mee2 = FrequencyExperts(2 * width)
        self.fe_mee3 = FrequencyExperts(2 * width)
        self.freeze_statistics(frozen_statistics)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        return self._restored(x, None)

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the restored images and {"importance": [B, 3, E], "load": [B, 3, E]}."""
        routings: list[Routing] = []
        y = self._restored(x, routings)
        importance, load = (torch.stack(parts, dim=1) for parts in zip(*routings, strict=True))
        return y, {"importance": importance, "load": load}

    def _restored(self, x: Tensor, routings: list[Routing] | None) -> Tensor:
        """Restore x; append the routing of the three levels to `routings`, unless it is `None`."""
        height, width = x.shape[-2:]
        padded = pad_to(x, 8, "reflect", smallest=SMALLEST)
        keys = image_keys(x) if self.training and self.router_noise else None
        prompt = self.task_prompt(padded)

        def noted(experts: TaskExperts, h: Tensor) -> Tensor:
            if routings is not None:
                routings.append(experts.routing(h, prompt, keys))
            return h

        f1 = noted(self.stpg_g_mese1, self.patch_embed(padded))
        f1 = self.encoder_level1(self.stpg_g_mese1(f1, prompt, keys))
        f2 = self.encoder_level2(noted(self.stpg_g_mese2, self.down1_2(f1)))
        f3 = self.encoder_level3(noted(self.stpg_g_mese3, self.down2_3(f2)))
        h = self.block1(self.latent(self.down3_4(f3)), padded)
        h = self.fe_mee1(self.reduce_chan_level3(torch.cat([self.up4_3(h), f3], dim=1)))
        h = self.block2(self.decoder_level3(h), padded)
        h = self.fe_mee2(self.reduce_chan_level2(torch.cat([self.up3_2(h), f2], dim=1)))
        h = self.block3(self.decoder_level2(h), padded)
        h = self.decoder_level1(self.fe_mee3(torch.cat([self.up2_1(h), f1], dim=1)))
        return (self.output(self.refinement(h)) + padded)[:, :, :height, :width]
