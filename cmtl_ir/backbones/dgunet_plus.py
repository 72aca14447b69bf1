"""DGUNet+. Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

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

STAGES: Final = 7


class DGUNetPlus(nn.Module):
    """DGUNet+, Deep Generalized Unfolding Networks for Image Restoration (Mou et al., CVPR 2022, arXiv 2204.13348).

    DGUNet (backbone `dgunet`) with weights of its own for each of seven stages. Returns the images [B, 3, H, W] of
    all stages, the last stage's first. Any H and W: reflected right and bottom up to a multiple of 8 and at least 16
    pixels, and cropped after. `task` is not read. The latent is that of the sixth stage, the last with a U-Net.

    Published settings of `width`, `growth`: 96, 48 (deblurring, the default), 80, 40 (denoising) and 40, 20
    (deraining). The authors' code and weights have no licence file. Departures: those of `dgunet`.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "stage6_encoder.body.3"
    output_weights: ClassVar[tuple[float, ...]] = (1.0,) * STAGES
    restored_output: ClassVar[Literal["first", "last"]] = "first"

    def __init__(self, *, width: int = 96, growth: int = 48) -> None:
        """`width`: channels of the finest level, 4 or more; `growth`: channels that each coarser level adds."""
        super().__init__()
        slope, shallow_slope = nn.PReLU(), nn.PReLU()
        widths = level_widths(width, growth)
        for stage in range(STAGES):
            self.register_parameter(f"r{stage}", step_size())
        for stage in range(STAGES):
            self.add_module(f"shallow_feat{stage + 1}", shallow(width, shallow_slope))
        for stage in range(STAGES):
            self.add_module(f"phi_{stage}", Degradation(slope))
            self.add_module(f"phit_{stage}", Degradation(slope))
        for stage in range(1, STAGES):
            self.add_module(f"stage{stage}_encoder", Encoder(widths, fused=stage > 1))
            self.add_module(f"stage{stage}_decoder", Decoder(widths))
        for stage in range(1, STAGES):
            self.add_module(f"sam{stage}{stage + 1}", Supervision(width))
            self.add_module(f"merge{stage}{stage + 1}", Merge(width))
        self.tail = conv(width, 3)

    def forward(self, x: Tensor, task: Tensor | None = None) -> list[Tensor]:
        """[B, 3, H, W] -> seven images of that shape, from the last stage's to the first one's."""
        height, width = x.shape[-2:]
        observed = pad_to(x, 8, "reflect", SMALLEST)
        image = observed
        images: list[Tensor] = []
        features: Tensor | None = None
        encoded: Levels | None = None
        decoded: Levels | None = None
        for stage in range(1, STAGES):
            image, h = self._shallow(stage, image, observed, features)
            encoded, bottom = self.get_submodule(f"stage{stage}_encoder")(h, encoded, decoded)
            decoded = self.get_submodule(f"stage{stage}_decoder")(encoded, bottom)
            features, image = self.get_submodule(f"sam{stage}{stage + 1}")(decoded[0], image)
            images.append(image)
        _, h = self._shallow(STAGES, image, observed, features)
        return cropped([*images, self.tail(h) + observed], height, width)

    def _shallow(self, stage: int, image: Tensor, observed: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """The image [B, 3, H, W] after the stage's gradient step, and its features [B, C, H, W].

        `features` are the previous stage's, `None` in the first stage.
        """
        phi, phit = self.get_submodule(f"phi_{stage - 1}"), self.get_submodule(f"phit_{stage - 1}")
        image = gradient_step(image, observed, self.get_parameter(f"r{stage - 1}"), phi, phit)
        h = self.get_submodule(f"shallow_feat{stage}")(image)
        return image, h if features is None else self.get_submodule(f"merge{stage - 1}{stage}")(h, features)
