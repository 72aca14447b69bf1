"""PSNR and SSIM under named protocols: two numbers are comparable only under the same one.

They differ by more than most papers gain: Y instead of RGB is 2.4 to 5.2 dB, the SSIM window .03 at heavy noise.
Everything runs on the device of the tensors, image by image in float64 (float32 on MPS, which has no float64).
Legend of shapes: B images, C channels (3, or 1 for luma), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cmtl_ir.base.errors import UnknownName, suggestion

PSNR_CAP_DB = 100.0
"""Identical images have infinite PSNR; MLflow stores inf as 1.8e308 and one such image would own every mean."""


@dataclass(frozen=True)
class Metric:
    """What a score is: its direction belongs to it, so that no reader of a table or a curve has to guess."""

    name: str
    unit: str
    higher_is_better: bool

    @property
    def sign(self) -> float:
        """+1 or -1: `sign * score` always grows with quality."""
        return 1.0 if self.higher_is_better else -1.0


PSNR = Metric("psnr", "dB", higher_is_better=True)
SSIM = Metric("ssim", "", higher_is_better=True)
METRICS = {metric.name: metric for metric in (PSNR, SSIM)}


@dataclass(frozen=True)
class Protocol:
    """Everything that must match before two tables may be compared."""

    name: str
    quantise: Literal["none", "round", "trunc"] = "round"
    """What happens to the restored image before it is compared: clamped float, or 8 bits by rounding or truncation."""
    border: int = 0
    """Pixels cut from every side."""
    colour: Literal["rgb", "y_float", "y_rounded"] = "rgb"
    """RGB, or the BT.601 luma of the 8-bit image, as float (BasicSR) or rounded to 8 bits (MATLAB)."""
    ssim: Literal["uniform7", "gaussian11", "gaussian11_3d"] = "gaussian11"
    """7x7 uniform, sample covariance (scikit-image); 11x11 Gaussian, sigma 1.5 (BasicSR); 11x11x11, padded (NAFNet)."""
    multiple: int = 1
    """Sides are centre-cropped to a multiple of this, as AirNet's `crop_img`; the authors do it before restoring."""

    def crop(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> its centre, sides a multiple of `multiple`; call it before restoring, as the authors do."""
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
    """A preset by its name; a `Protocol` of one's own passes through."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise UnknownName(f"no metric protocol {protocol!r}; {suggestion(protocol, list(PROTOCOLS))}")
    return PROTOCOLS[protocol]


def evaluate_pair(restored: Tensor, clean: Tensor, protocol: Protocol | str) -> dict[str, Tensor]:
    """[B, 3, H, W] twice, in [0, 1] -> {"psnr": [B] dB, "ssim": [B]}, float64."""
    return {"psnr": psnr(restored, clean, protocol), "ssim": ssim(restored, clean, protocol)}


@torch.no_grad()
def psnr(restored: Tensor, clean: Tensor, protocol: Protocol | str) -> Tensor:
    """[B, 3, H, W] twice, in [0, 1] -> [B] dB per image: 10 log10(255^2 / MSE), at most `PSNR_CAP_DB`.

    Per image, because pooling squared errors over a test set costs up to 4 dB (torchmetrics' default does that).
    """
    x, y = _comparable(restored, clean, find_protocol(protocol), smallest=1)
    mse = (x - y).square().flatten(1).mean(1)  # [B]
    return (10.0 * torch.log10(255.0**2 / mse)).clamp(max=PSNR_CAP_DB)  # NaN stays NaN


@torch.no_grad()
def ssim(restored: Tensor, clean: Tensor, protocol: Protocol | str) -> Tensor:
    """[B, 3, H, W] twice, in [0, 1] -> [B], mean structural similarity (Wang et al., IEEE TIP 2004, eq. 13)."""
    protocol = find_protocol(protocol)
    size, smooth = _WINDOWS[protocol.ssim]
    x, y = _comparable(restored, clean, protocol, smallest=size)
    mean_x, mean_y, xx, yy, xy = smooth(torch.stack([x, y, x * x, y * y, x * y]))  # each [B, C, H', W']
    # scikit-image's default divides by N - 1, all others by N
    unbiased = size**2 / (size**2 - 1) if protocol.ssim == "uniform7" else 1.0
    variances = unbiased * (xx - mean_x**2 + yy - mean_y**2)
    covariance = unbiased * (xy - mean_x * mean_y)
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * (2 * covariance + c2) / (variances + c2)).flatten(1).mean(1)


# --- what is compared -----------------------------------------------------------------------------------------------


def _comparable(restored: Tensor, clean: Tensor, protocol: Protocol, smallest: int) -> tuple[Tensor, Tensor]:
    """Both images [B, C, H', W'] on the scale 0 .. 255, quantised, cropped and in the protocol's colours."""
    if restored.shape != clean.shape or restored.dim() != 4 or restored.shape[1] != 3:
        raise ValueError(f"expected two [B, 3, H, W], got {list(restored.shape)} and {list(clean.shape)}")
    # A clean image has 8 bits to begin with: rounding recovers them from any way of scaling, truncation does not.
    clean_quantise = "none" if protocol.quantise == "none" else "round"
    pair = _levels(restored, protocol.quantise), _levels(clean, clean_quantise)
    x, y = (_colours(_inside(levels, protocol), protocol.colour) for levels in pair)
    if min(x.shape[-2:]) < smallest:
        cut = f"; protocol {protocol.name!r} leaves {list(x.shape[-2:])}" if x.shape[-2:] != clean.shape[-2:] else ""
        raise ValueError(
            f"images of {list(clean.shape[-2:])} pixels are too small{cut}; need {smallest} or more a side"
        )
    return x, y


def _levels(image: Tensor, quantise: str) -> Tensor:
    wide = torch.float32 if image.device.type == "mps" else torch.float64
    # Multiply in the image's own precision, as the authors do: in float64 a pixel close to a half rounds the other way,
    # and one such pixel shows in the fourth decimal.
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


# --- windows: [5, B, C, H, W] -> local means, [5, B, C, H', W'] -----------------------------------------------------


_UNIFORM = [1 / 7] * 7
_GAUSSIAN = torch.softmax(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2), 0).tolist()  # sums to 1


def _slide(moments: Tensor, weights: list[float]) -> Tensor:
    """Shifted sums, rows then columns: conv2d in float64 is 10 times slower on a CPU at 720 x 1280."""
    for axis in (-2, -1):
        length = moments.shape[axis] - len(weights) + 1
        smoothed = moments.narrow(axis, 0, length) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            smoothed.add_(moments.narrow(axis, shift, length), alpha=weight)
        moments = smoothed
    return moments


def _gaussian11_3d(moments: Tensor) -> Tensor:
    """NAFNet's window reaches over the channels too; edges are replicated, so nothing is cut."""
    channels = moments.shape[2]
    reached = (torch.arange(channels)[:, None] + torch.arange(-5, 6)).clamp(0, channels - 1)  # [C, 11]
    weights = torch.tensor(_GAUSSIAN, dtype=moments.dtype).expand(channels, 11)
    mixing = moments.new_zeros(channels, channels, device="cpu").scatter_add_(1, reached, weights).to(moments.device)
    mixed = torch.einsum("sbdhw,cd->sbchw", moments, mixing)
    padded = F.pad(mixed.flatten(0, 1), (5, 5, 5, 5), mode="replicate")
    return _slide(padded.unflatten(0, moments.shape[:2]), _GAUSSIAN)


_WINDOWS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "uniform7": (7, partial(_slide, weights=_UNIFORM)),
    "gaussian11": (11, partial(_slide, weights=_GAUSSIAN)),
    "gaussian11_3d": (11, _gaussian11_3d),
}
