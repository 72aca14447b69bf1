"""U-WADN. Shapes: B images, n of 64 channels that a width uses, H x W pixels, W widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import image_keys
from cmtl_ir.backbones.airnet import CHANNELS, DeformableConv, GuidedBlock, GuidedModule, ResidualBlock, Restorer
from cmtl_ir.base import keyed

SLOPE = 0.1
SQUEEZED = 16


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


# ----------------------------------------------------------------------------- AirNet's restorer at a chosen width


def _narrow(conv: nn.Conv2d, x: Tensor, outputs: int) -> Tensor:
    """Convolve by the first output channels and as many input channels as x has."""
    bias = None if conv.bias is None else conv.bias[:outputs]
    return F.conv2d(x, conv.weight[:outputs, : x.shape[1]], bias, padding=conv.padding)


def _deformed(conv: DeformableConv, features: Tensor, representation: Tensor) -> Tensor:
    # At a narrow width the representation meets weights that belong to features at full width.
    width = features.shape[1]
    offsets = _narrow(conv.conv_offset_mask, torch.cat([features, representation], dim=1), 27)
    return F.conv2d(conv.taps(features, offsets), conv.weight[:width, :width], stride=3)


def _branch(branch: nn.Sequential, x: Tensor) -> Tensor:
    first, _, second = branch
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
    return _narrow(second, _leaky(_narrow(first, x, x.shape[1])), x.shape[1])


def _guided(module: GuidedModule, features: Tensor, representation: Tensor) -> Tensor:
    scale, shift = (_branch(one, representation) for one in (module.sft.conv_gamma, module.sft.conv_beta))
    return features + _deformed(module.dcn, features, representation) + features * scale + shift


def _block(block: GuidedBlock, features: Tensor, representation: Tensor) -> Tensor:
    width = features.shape[1]
    h = _leaky(_narrow(block.conv1, _leaky(_guided(block.dgm1, features, representation)), width))
    return features + _narrow(block.conv2, _leaky(_guided(block.dgm2, h, representation)), width)


def _through(part: nn.Module, features: Tensor, representation: Tensor) -> Tensor:
    """A block, or a body of parts and a last convolution around a skip."""
    if isinstance(part, GuidedBlock):
        return _block(part, features, representation)
    *inner, last = part.get_submodule("body").children()
    h = features
    for one in inner:
        h = _through(one, h, representation)
    assert isinstance(last, nn.Conv2d)
    return features + _narrow(last, h, features.shape[1])


def restored_at(restorer: Restorer, x: Tensor, representation: Tensor, width: int) -> Tensor:
    """Restore [B, 3, H, W] by the first `width` channels of AirNet's restorer."""
    head, tail = restorer.head[0], restorer.tail[0]
    assert isinstance(head, nn.Conv2d) and isinstance(tail, nn.Conv2d)
    return _narrow(tail, _through(restorer, _narrow(head, x, width), representation[:, :width]), 3)


# --------------------------------------------------------------------------------------------- the choice of a width


class Encoder(nn.Module):
    """The representation and a classification of the degradation."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.E_pre = ResidualBlock(3, CHANNELS, 1)
        self.E = nn.Sequential(ResidualBlock(CHANNELS, 128, 2))
        self.mlp = nn.Sequential(nn.Linear(128, 128), nn.LeakyReLU(SLOPE), nn.Linear(128, classes))


class Selector(nn.Module):
    """E: which width an image needs."""

    def __init__(self, widths: int) -> None:
        super().__init__()
        self.E = Encoder(widths)
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(CHANNELS, SQUEEZED, 1, bias=False),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(SQUEEZED, CHANNELS, 1, bias=False),
        )
        self.classifier = nn.Linear(CHANNELS, widths)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 64, H, W]
        return self.E.E_pre(x)

    def logits(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Of the degradation, and of the width: [B, W] each."""
        degradation = self.E.mlp(self.E.E(features).mean((2, 3)))
        return degradation, degradation + 0.5 * self.classifier(self.se(features).flatten(1))


class UWADN(nn.Module):
    """A Unified-Width Adaptive Dynamic Network for All-in-One Image Restoration (U-WADN; Xu et al., 2024).

    AirNet's restorer at several widths, all from the same weights: a narrow width uses the first channels of every
    convolution. The encoder classifies the degradation and so chooses the width of each image. Restoring is at the
    chosen widths, and `at_width` restores at a given one. Any H and W, no padding, no global skip.

    In training, `stage: 1` returns two images, of a random narrow width and of the full one, whose losses are weighed
    1 to 5, and `stage: 2` trains only the choice. `forward_features` gives the logits of degradation and width, which
    `own_classes` (weight 0.1 in stage 1, 1 in stage 2, smoothing 0) and `width_choice` (stage 2) supervise.

    In training BatchNorm makes the encoder's features depend on the whole batch: samples couple. The authors' code has
    no license.

    Departures: each image has its own width, where the authors have one per batch; the deformable convolution is
    AirNet's here, on grid_sample. Which images run at which width depends on the data: torch.compile breaks the graph.
    """

    couples_samples = True
    unused: tuple[str, ...] = ("E.E.E.*", "E.E.mlp.*", "E.se.*", "E.classifier.*")
    latent_module: ClassVar[str] = "transform"
    restored_output: ClassVar[str] = "last"
    output_weights: ClassVar[tuple[float, ...]] = (1.0, 5.0)

    def __init__(
        self,
        *,
        groups: int = 5,
        blocks: int = 5,
        widths: Sequence[float] = (0.6, 0.7, 0.8, 0.9, 1.0),
        stage: Literal[1, 2] = 1,
    ) -> None:
        super().__init__()
        if not all(0 < width <= 1 for width in widths):
            raise ValueError(f"widths are shares of {CHANNELS} channels, above 0 and at most 1, not {list(widths)}")
        self.widths, self.stage = tuple(widths), stage
        self.channels = [int(CHANNELS * width) for width in widths]
        self.R = Restorer(groups, blocks)
        self.E = Selector(len(widths))
        self.transform = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)
        if stage == 2:
            for part in (self.R, self.transform, self.E.E.E_pre):
                part.requires_grad_(False)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor | list[Tensor]:
        """Restore [B, 3, H, W]; in training in stage 1 at a random narrow width and at the full one."""
        return self.forward_features(x, task)[0]

    def forward_features(
        self, x: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor | list[Tensor], dict[str, Tensor]]:
        """What `forward` returns, and "degradation" and "width" [B, W], the logits of both choices.

        In training in stage 2 also "images" [B, W, 3, H, W], restored at every width, and "widths" [B, W].
        """
        features = self.E(x)
        degradation, width = self.E.logits(features)
        found, last = {"degradation": degradation, "width": width}, len(self.widths) - 1
        if not self.training:
            return self._restored(x, features, width.argmax(1)), found
        if self.stage == 1:
            narrow = keyed.integers(keyed.substream(image_keys(x), "width"), 0, max(last, 1))
            return [self._restored(x, features, one) for one in (narrow, torch.full_like(narrow, last))], found
        representation = self.transform(features)
        images = torch.stack([restored_at(self.R, x, representation, width) for width in self.channels], dim=1)
        found |= {"images": images, "widths": x.new_tensor(self.widths).expand(len(x), -1)}
        return images[torch.arange(len(x), device=x.device), width.argmax(1)], found

    def at_width(self, x: Tensor, number: int) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        """Restore at one of `widths`, counted from 0."""
        return restored_at(self.R, x, self.transform(self.E(x)), self.channels[number])

    def _restored(self, x: Tensor, features: Tensor, numbers: Tensor) -> Tensor:  # numbers [B]
        representation = self.transform(features)
        order = numbers.argsort(stable=True)
        counts = numbers.bincount(minlength=len(self.channels)).tolist()
        parts = zip(x[order].split(counts), representation[order].split(counts), self.channels, strict=True)
        found = [restored_at(self.R, *part) for part in parts if len(part[0])]
        return torch.cat(found)[order.argsort()]
