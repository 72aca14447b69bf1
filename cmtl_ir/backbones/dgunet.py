"""DGUNet. Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._cab import conv, shallow
from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones._unfolding import (
    SMALLEST,
    Decoder,
    Degradation,
    Encoder,
    Levels,
    Merge,
    Supervision,
    cropped,
    gradient_step,
    level_widths,
    step_size,
)


class Stage(nn.Module):
    """The stage that is repeated: a gradient step, then a U-Net on its result and the previous features."""

    def __init__(self, widths: Sequence[int], slope: nn.PReLU) -> None:
        super().__init__()
        width = widths[0]
        self.r1 = step_size()
        self.phi_1, self.phit_1 = Degradation(slope), Degradation(slope)
        self.shallow_feat2 = shallow(width, nn.PReLU())
        self.stage2_encoder = Encoder(widths, fused=True)
        self.stage2_decoder = Decoder(widths)
        self.sam23 = Supervision(width)
        self.concat12 = conv(2 * width, width)
        self.merge12 = Merge(width)

    def forward(
        self, observed: Tensor, image: Tensor, features: Tensor, encoded: Levels, decoded: Levels
    ) -> tuple[Tensor, Tensor, Levels, Levels]:
        """The next image, features and levels; `observed` and `image` are [B, 3, H, W], `features` [B, C, H, W]."""
        image = gradient_step(image, observed, self.r1, self.phi_1, self.phit_1)
        h = self.merge12(self.shallow_feat2(image), features)
        encoded, bottom = self.stage2_encoder(h, encoded, decoded)
        decoded = self.stage2_decoder(encoded, bottom)
        features, image = self.sam23(decoded[0], image)
        return image, features, encoded, decoded


class DGUNet(nn.Module):
    """Deep Generalized Unfolding Networks for Image Restoration (Mou et al., CVPR 2022, arXiv 2204.13348).

    Unfolded proximal gradient descent: a first stage, one stage repeated `depth` times with the same weights, and a
    last stage. Returns the images [B, 3, H, W] of all depth + 2 stages, the last stage's first. Any H and W:
    reflected right and bottom up to a multiple of 8 and at least 16 pixels, and cropped after. `task` is not read.
    The latent is computed once per repetition.

    Published settings of `width`, `growth`, `last_growth`: 80, 48, 32 (deblurring and denoising, the default) and
    40, 20, 16 (deraining). The authors' code and weights have no licence file. DGUNet+ is the backbone `dgunet_plus`.

    Departures: networks of one process do not share the slope of the degradations' PReLU, as they do in the authors'
    code. A tiny multiple of the identity makes the projection between stages defined for dependent bases.
    """

    couples_samples = False
    unused: tuple[str, ...] = ("basic.concat12.weight",)
    latent_module: ClassVar[str] = "basic.stage2_encoder.body.3"
    output_weights: tuple[float, ...] = (1.0,) * 7
    restored_output: ClassVar[Literal["first", "last"]] = "first"

    def __init__(self, *, width: int = 80, growth: int = 48, last_growth: int = 32, depth: int = 5) -> None:
        """Build the stages.

        width: channels of the finest level, 4 or more.
        growth: channels that each coarser level adds; the sum with `width` must be even, and so must `growth`.
        last_growth: channels that the last stage adds to `width`.
        depth: repetitions of the middle stage.
        """
        super().__init__()
        slope, shallow_slope = nn.PReLU(), nn.PReLU()
        widths = level_widths(width, growth)
        self.depth = depth
        self.output_weights = (1.0,) * (depth + 2)
        self.r0, self.r6 = step_size(), step_size()
        self.basic = Stage(widths, slope)
        self.shallow_feat1, self.shallow_feat7 = shallow(width, shallow_slope), shallow(width, shallow_slope)
        self.stage1_encoder = Encoder(widths, fused=False)
        self.stage1_decoder = Decoder(widths)
        self.sam12 = Supervision(width)
        self.phi_0, self.phit_0 = Degradation(slope), Degradation(slope)
        self.phi_6, self.phit_6 = Degradation(slope), Degradation(slope)
        self.concat67 = conv(2 * width, width + last_growth)
        self.tail = conv(width + last_growth, 3)

    def forward(self, x: Tensor, task: Tensor | None = None) -> list[Tensor]:
        """[B, 3, H, W] -> depth + 2 images of that shape, from the last stage's to the first one's."""
        height, width = x.shape[-2:]
        observed = pad_to(x, 8, "reflect", SMALLEST)
        image = gradient_step(observed, observed, self.r0, self.phi_0, self.phit_0)
        encoded, bottom = self.stage1_encoder(self.shallow_feat1(image))
        decoded = self.stage1_decoder(encoded, bottom)
        features, image = self.sam12(decoded[0], image)
        images = [image]
        for _ in range(self.depth):
            image, features, encoded, decoded = self.basic(observed, image, features, encoded, decoded)
            images.append(image)
        image = gradient_step(image, observed, self.r6, self.phi_6, self.phit_6)
        h = self.concat67(torch.cat([self.shallow_feat7(image), features], dim=1))
        return cropped([*images, self.tail(h) + observed], height, width)
