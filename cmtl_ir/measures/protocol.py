"""Protocols: all settings that must match before two numbers of a metric may be compared.

They differ by more than most papers gain: Y instead of RGB is 2.4 to 5.2 dB, the SSIM window .03 at heavy noise.
Shapes: B images, C channels (3, or 1 for luma), H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cmtl_ir.base.errors import UnknownName, suggestion


@dataclass(frozen=True)
class Protocol:
    """Settings that must match before two tables may be compared."""

    name: str
    quantise: Literal["none", "round", "trunc"] = "round"
    """Quantisation of the restored image before comparison: clamped float, or 8 bits by rounding or truncation."""
    border: int = 0
    """Pixels cut from every side."""
    colour: Literal["rgb", "y_float", "y_rounded"] = "rgb"
    """RGB, or the BT.601 luma of the 8-bit image, as float (BasicSR) or rounded to 8 bits (MATLAB)."""
    ssim: Literal["uniform7", "gaussian11", "gaussian11_3d"] = "gaussian11"
    """7x7 uniform, sample covariance (scikit-image); 11x11 Gaussian, sigma 1.5 (BasicSR); 11x11x11, padded (NAFNet)."""
    multiple: int = 1
    """Sides are centre-cropped to a multiple of this, as AirNet's `crop_img`. The authors do it before restoring."""

    def crop(self, images: Tensor) -> Tensor:
        """Return the centre of images [B, 3, H, W], with sides a multiple of `multiple`. Call it before restoring."""
        height, width = images.shape[-2:]
        top, left = height % self.multiple // 2, width % self.multiple // 2
        high, wide = height - height % self.multiple, width - width % self.multiple
        return images[..., top : top + high, left : left + wide]


_PRESETS = (
    Protocol("promptir", quantise="none", ssim="uniform7", multiple=16),  # AirNet, PromptIR, AdaIR: scikit-image
    Protocol("basicsr_rgb"),
    Protocol("basicsr_y", colour="y_float"),
    Protocol("matlab_y", colour="y_rounded"),  # Restormer, MPRNet: deraining
    Protocol("mio", border=4),  # MiOIR
    Protocol("nafnet", ssim="gaussian11_3d"),
)
PROTOCOLS = {protocol.name: protocol for protocol in _PRESETS}


def find_protocol(protocol: Protocol | str) -> Protocol:
    """Return a preset by its name. A `Protocol` is returned unchanged. Raise UnknownName for an unknown name."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UnknownName(f"no metric protocol {protocol!r}; {suggestion(protocol, list(PROTOCOLS))}")
    return PROTOCOLS[protocol]


def comparable(restored: Tensor, clean: Tensor, protocol: Protocol, smallest: int) -> tuple[Tensor, Tensor]:
    """Return both images [B, C, H', W'] on the scale 0 .. 255, quantised, cropped and in the protocol's colours."""
    if restored.shape != clean.shape or restored.dim() != 4 or restored.shape[1] != 3:
        raise ValueError(f"expected two [B, 3, H, W], got {list(restored.shape)} and {list(clean.shape)}")
    # A clean image has 8 bits. Rounding recovers them from any way of scaling, but truncation does not.
    clean_quantise = "none" if protocol.quantise == "none" else "round"
    pair = _levels(restored, protocol.quantise), _levels(clean, clean_quantise)
    x, y = (_colours(_inside(levels, protocol), protocol.colour) for levels in pair)
    if min(x.shape[-2:]) < smallest:
        cut = f"; protocol {protocol.name!r} leaves {list(x.shape[-2:])}" if x.shape[-2:] != clean.shape[-2:] else ""
        raise ValueError(
            f"images of {list(clean.shape[-2:])} pixels are too small{cut}; need {smallest} or more per side"
        )
    return x, y


def _levels(image: Tensor, quantise: str) -> Tensor:
    wide = torch.float32 if image.device.type == "mps" else torch.float64
    # Multiply in the image's own precision, as the authors do. In float64 a pixel close to a half rounds the other
    # way, and one such pixel changes the fourth decimal.
    image = image if image.dtype == torch.float64 else image.float()
    if quantise == "none":
        return image.to(wide).clamp(0.0, 1.0) * 255.0
    levels = image.clamp(0.0, 1.0) * 255.0
    return (levels.round() if quantise == "round" else levels.trunc()).to(wide)


def _inside(levels: Tensor, protocol: Protocol) -> Tensor:
    cropped, border = protocol.crop(levels), protocol.border
    return cropped[..., border : cropped.shape[-2] - border, border : cropped.shape[-1] - border]


def _colours(levels: Tensor, colour: str) -> Tensor:
    if colour == "rgb":
        return levels
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=levels.dtype, device=levels.device) / 255.0
    luma = (levels * weights.view(1, 3, 1, 1)).sum(1, keepdim=True) + 16.0
    return torch.floor(luma + 0.5) if colour == "y_rounded" else luma  # MATLAB rounds halves up
