"""UtilityIR. Shapes: B images, C channels, H x W pixels, d the width, k channels of a degradation."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._instance import instance_norm
from cmtl_ir.backbones._layers import pad_to

HEADS = 2
HIDDEN = 32  # of the networks that turn a severity into scales and shifts
QUALITY_RANGE = 50.0
EPSILON = 1e-5


def _reflected(channels: int, outputs: int, size: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(size // 2), nn.Conv2d(channels, outputs, size)]


def _halved(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1)


def _same(channels: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 3, padding=1)


# ------------------------------------------------------------------------------------------------------ degradation


class DegradationEncoder(nn.Module):
    """DIE: what kind of degradation an image has where, how severe it is, and how good the image is."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.feat = nn.Sequential(
            *_reflected(3, width, 5), nn.GELU(), *_reflected(width, width, 5), nn.GELU(),
            _halved(width), nn.GELU(), _halved(2 * width), nn.GELU(),
        )  # fmt: skip
        for number in range(4):
            self.add_module(f"feat{number}", nn.Sequential(_same(4 * width, 4 * width), nn.GELU()))
        self.feat_enc = nn.Sequential(nn.Conv2d(16 * width, channels, 1), nn.GELU())
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4 * width, channels, 1))
        half = channels // 2
        self.IQA_regressor = nn.Sequential(nn.Linear(channels, half), nn.GELU(), nn.Linear(half, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [B, 3, H, W] -> [B, k, H / 4, W / 4], [B, k]
        """Type map and severity."""
        h = self.feat(x)
        features: list[Tensor] = []
        for number in range(4):
            h = self.get_submodule(f"feat{number}")(h)
            features.append(h)
        return self.feat_enc(torch.cat(features, dim=1)), self.avgpool(h).flatten(1)

    def quality(self, severity: Tensor) -> Tensor:  # [B, k] -> [B]
        """Predicted quality of the input, about 0 to 50."""
        return QUALITY_RANGE * self.IQA_regressor(severity).squeeze(1)


# ------------------------------------------------------------------------------------------- features of the image


class SeverityMlp(nn.Module):
    """ML: a severity to one number per channel."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(channels, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, outputs)
        )

    def forward(self, severity: Tensor) -> Tensor:  # [B, k] -> [B, C, 1, 1]
        return self.model(severity)[:, :, None, None]


class _Statistics(nn.Module):
    """Buffers of the authors' weights that nothing reads or updates."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))


class GlobalAffine(_Statistics):
    """Scale and shift of every channel, from the severity."""

    def __init__(self, channels: int, degradation: int) -> None:
        super().__init__(channels)
        self.weight_enc = SeverityMlp(degradation, channels)
        self.bias_enc = SeverityMlp(degradation, channels)

    def forward(self, x: Tensor, severity: Tensor) -> Tensor:  # [B, C, H, W], [B, k]
        return x * self.weight_enc(severity) + self.bias_enc(severity)


class LocalAffine(_Statistics):
    """Scale and shift of every pixel, from the type map."""

    def __init__(self, degradation: int) -> None:
        super().__init__(degradation)
        self.weight_enc = self._map(degradation)
        self.bias_enc = self._map(degradation)

    @staticmethod
    def _map(channels: int) -> nn.Sequential:
        return nn.Sequential(_same(channels, channels), nn.GELU(), _same(channels, 1))

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:  # [B, C, H, W], [B, k, H, W]
        return x * self.weight_enc(kind) + self.bias_enc(kind)


class SeverityNorm(GlobalAffine):
    """AI: instance norm, then scale and shift by the severity."""

    def forward(self, x: Tensor, severity: Tensor) -> Tensor:
        return super().forward(instance_norm(x), severity)


class DegradationNorm(nn.Module):
    """WI: instance norm, then scale and shift by the type map, then by the severity."""

    def __init__(self, channels: int, degradation: int) -> None:
        super().__init__()
        self.local_affine = LocalAffine(degradation)
        self.global_affine = GlobalAffine(channels, degradation)

    def forward(self, x: Tensor, kind: Tensor, severity: Tensor) -> Tensor:
        return self.global_affine(self.local_affine(instance_norm(x), kind), severity)


def _through(layers: nn.Module, x: Tensor, kind: Tensor, severity: Tensor) -> Tensor:
    """The layers in sequence, of which the norms read the degradation."""
    for layer in layers.children():
        if isinstance(layer, DegradationNorm):
            x = layer(x, kind, severity)
        else:
            x = layer(x, severity) if isinstance(layer, SeverityNorm) else layer(x)
    return x


class DegradationBlock(nn.Module):
    """Two normalised convolutions around a skip."""

    def __init__(self, channels: int, degradation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *_reflected(channels, channels, 3), DegradationNorm(channels, degradation), nn.GELU(),
            *_reflected(channels, channels, 3), DegradationNorm(channels, degradation),
        )  # fmt: skip

    def forward(self, x: Tensor, kind: Tensor, severity: Tensor) -> Tensor:
        return x + _through(self.block, x, kind, severity)


class MultiheadAttention(nn.Module):
    """Attention between all pixels, its parameters as in torch's module of that name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, *inputs: Tensor) -> Tensor:  # queries, keys, values [B, C, H, W] -> [B, C, H, W]
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        heads = (
            F.linear(x.flatten(2).transpose(1, 2), weight, bias).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        found = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return self.out_proj(found).transpose(1, 2).view(inputs[0].shape)


class TypeAttention(nn.Module):
    """The type map asks, the image answers."""

    def __init__(self, width: int, degradation: int) -> None:
        super().__init__()
        channels = 4 * width
        self.q_enc = nn.Sequential(_same(degradation, channels), _same(channels, channels))
        self.k_enc = nn.Sequential(_same(channels, channels // 2), _same(channels // 2, channels))
        self.v_enc = nn.Sequential(_same(channels, channels // 2), _same(channels // 2, channels))
        self.att = MultiheadAttention(channels)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:  # [B, 4d, H, W], [B, k, H, W]
        return self.att(self.q_enc(kind), self.k_enc(x), self.v_enc(x))


class FeatureExtractor(nn.Module):
    """R: features of the image, normalized as the degradation asks for."""

    def __init__(self, width: int, blocks: int, degradation: int) -> None:
        super().__init__()
        self.feat_extarct = nn.Sequential(  # the authors' spelling
            *_reflected(3, width, 5), SeverityNorm(width, degradation), nn.GELU(),
            *_reflected(width, width, 5), SeverityNorm(width, degradation), nn.GELU(),
        )  # fmt: skip
        for number, channels in enumerate((width, 2 * width)):
            norm = SeverityNorm(2 * channels, degradation)
            self.add_module(f"down_{number}", nn.Sequential(_halved(channels), norm, nn.GELU()))
        self.model = nn.Sequential(*(DegradationBlock(4 * width, degradation) for _ in range(blocks + 2)))
        self.att = TypeAttention(width, degradation)

    def forward(self, x: Tensor, kind: Tensor, severity: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, 4d, H / 4, W / 4]
        h = _through(self.feat_extarct, x, kind, severity)
        for down in (self.get_submodule("down_0"), self.get_submodule("down_1")):
            h = _through(down, h, kind, severity)
        for block in self.model:
            h = block(h, kind, severity)
        return h + self.att(h, kind)


# ---------------------------------------------------------------------------------------------------- reconstruction


class SampleNorm(nn.Module):
    """Lw: layer norm over all channels and pixels of a sample, by its unbiased deviation; scale and shift a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(x, (1, 2, 3), keepdim=True)
        normed = (x - mean) / (deviation + EPSILON)
        return normed * self.gamma[:, None, None] + self.beta[:, None, None]


class PlainBlock(nn.Module):
    """Two normalised convolutions around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = ([*_reflected(channels, channels, 3), SampleNorm(channels)] for _ in range(2))
        self.block = nn.Sequential(*first, nn.GELU(), *second)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class Reconstruction(nn.Module):
    """Features to the residual of the image."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.res = nn.Sequential(*(PlainBlock(4 * width) for _ in range(blocks)))
        self.up_0 = self._doubled(4 * width)
        self.up_1 = self._doubled(2 * width)
        self.model = nn.Sequential(*_reflected(width, width // 2, 5), *_reflected(width // 2, 3, 5))

    @staticmethod
    def _doubled(channels: int) -> nn.Sequential:
        up = nn.ConvTranspose2d(channels, channels // 2, 5, stride=2, padding=2, output_padding=1)
        return nn.Sequential(up, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.model(self.up_1(self.up_0(self.res(x)))))


class UtilityIR(nn.Module):
    """Always Clear Days: Degradation Type and Severity Aware All-In-One Adverse Weather Removal (Chen, Pei, 2023).

    UtilityIR estimates a map of the degradation's type and a vector of its severity, which drive the norms of the
    restorer. `type_map` [B, k, H / 4, W / 4] and `severity` [B, k] replace the estimates where they are given.
    `forward_features` gives the estimates and the predicted quality for the training losses. Any H and W: reflected
    right and bottom up to a multiple of 4 and at least 8, and cropped after. Attention is between all pixels of the
    quarter image: its cost grows with the square of their number. Weights of the authors: Apache-2.0.
    """

    couples_samples = False
    unused: tuple[str, ...] = ("die.IQA_regressor.*",)
    latent_module: ClassVar[str] = "R"

    def __init__(self, *, width: int = 64, blocks: int = 5, degradation: int = 128) -> None:
        super().__init__()
        self.die = DegradationEncoder(width, degradation)
        self.R = FeatureExtractor(width, blocks, degradation)
        self.recon = Reconstruction(width, blocks)

    def forward(
        self,
        x: Tensor,
        task: Tensor | None = None,
        type_map: Tensor | None = None,
        severity: Tensor | None = None,
    ) -> Tensor:
        """Restore [B, 3, H, W]; `task` is not read."""
        return self._restored(x, type_map, severity)[0]

    def forward_features(
        self,
        x: Tensor,
        task: Tensor | None = None,
        type_map: Tensor | None = None,
        severity: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The restored images, "type" [B, k, H / 4, W / 4], "severity" [B, k] and "quality" [B] of the input."""
        restored, kind, severity = self._restored(x, type_map, severity)
        return restored, {"type": kind, "severity": severity, "quality": self.die.quality(severity)}

    def estimates(self, x: Tensor) -> dict[str, Tensor]:
        """The estimates of `forward_features` without the restoration, of images [B, 3, H, W]."""
        kind, severity = self.die(pad_to(x, 4, "reflect", smallest=8))
        return {"type": kind, "severity": severity, "quality": self.die.quality(severity)}

    def _restored(self, x: Tensor, kind: Tensor | None, severity: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        height, width = x.shape[-2:]
        padded = pad_to(x, 4, "reflect", smallest=8)
        if kind is None or severity is None:
            estimates = self.die(padded)
            kind = estimates[0] if kind is None else kind
            severity = estimates[1] if severity is None else severity
        y = self.recon(self.R(padded, kind, severity)) + padded
        return y[:, :, :height, :width], kind, severity
