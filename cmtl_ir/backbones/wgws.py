"""WGWS-Net. Shapes: B images, C channels of a level, H x W pixels of a level, K weathers, b base channels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones._phases import Phased

FIRST_INDICATOR = 0.15
THRESHOLD = 0.1  # of an indicator, below which its branch is off
WEATHER_PARTS = ("Encoder", "Decoder", "feat_extract.[0125]", "Convs", "AFFs", "FAM", "SCM")


class WeatherConv(nn.Conv2d):
    """W * x + sum over weathers k of flag_k [I_k >= 0.1] R_k * x, with W frozen and without bias.

    The residuals R_k start at zero. The step of the indicator I_k passes its gradient straight through. In the phase
    `general`, which only a convolution with `bias` has, it is an ordinary convolution.
    """

    def __init__(
        self, channels: int, outputs: int, size: int, stride: int, weathers: int, residual: int, bias: bool = False
    ) -> None:
        super().__init__(channels, outputs, size, stride, size // 2, bias=bias)
        self.weight.requires_grad_(bias)
        self.weathers, self.general = weathers, bias
        residual = min(residual, size)
        self.residual_padding = size // 2 if residual == size else 0
        for number in range(1, weathers + 1):
            kernel = torch.zeros(outputs, channels, residual, residual)
            self.register_parameter(f"B{number}_residual", nn.Parameter(kernel))
            self.register_parameter(f"B{number}_indicator", nn.Parameter(torch.full((1,), FIRST_INDICATOR)))

    def weather(self, x: Tensor, flags: Tensor | None) -> Tensor:  # [B, C, H, W], [B, K]
        """Convolve; `flags` says whose residuals act on which image, `None` that none does."""
        if self.general:
            return self(x)
        y = F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        if flags is None:
            return y
        for number in range(1, self.weathers + 1):
            indicator = self.get_parameter(f"B{number}_indicator")
            kernel = self.get_parameter(f"B{number}_residual")
            step = (indicator.detach() >= THRESHOLD).to(indicator.dtype) + indicator - indicator.detach()
            branch = F.conv2d(x, kernel * step, stride=self.stride, padding=self.residual_padding)
            y = y + branch * flags[:, number - 1].view(-1, 1, 1, 1)
        return y

    def indicators(self) -> Tensor:  # [K]
        """Absolute values of the indicators of all weathers."""
        return torch.cat([self.get_parameter(f"B{number}_indicator") for number in range(1, self.weathers + 1)]).abs()


class Conv(nn.Module):
    """The convolution under the authors' name, `layer`: plain with bias in stage 1, one per weather in stage 2."""

    def __init__(
        self,
        channels: int,
        outputs: int,
        size: int,
        stride: int = 1,
        *,
        weathers: int = 0,
        residual: int = 1,
        both: bool = False,
    ) -> None:
        super().__init__()
        if weathers:
            self.layer: nn.Conv2d = WeatherConv(channels, outputs, size, stride, weathers, residual, both)
        else:
            self.layer = nn.Conv2d(channels, outputs, size, stride, size // 2)

    def forward(self, x: Tensor, flags: Tensor | None) -> Tensor:
        return self.layer.weather(x, flags) if isinstance(self.layer, WeatherConv) else self.layer(x)


class Up(nn.Module):
    """A transposed convolution that doubles the sides. All weathers share it in both stages."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(channels, outputs, 4, stride=2, padding=1)

    def forward(self, x: Tensor, flags: Tensor | None) -> Tensor:
        return self.layer(x)


class Dense(nn.Module):
    """A convolution whose output is appended to its input under the authors' name, `conv`."""

    def __init__(self, channels: int, growth: int, conv: partial[Conv]) -> None:
        super().__init__()
        self.conv = conv(channels, growth, 3)

    def forward(self, x: Tensor, flags: Tensor | None) -> Tensor:
        return torch.cat([x, F.gelu(self.conv(x, flags))], dim=1)


class DenseBlock(nn.Module):
    """RDB: three dense convolutions, fused by a 1x1 convolution, around a skip."""

    def __init__(self, channels: int, conv: partial[Conv]) -> None:
        super().__init__()
        self.conv0 = Dense(channels, channels, conv)
        self.conv1 = Dense(2 * channels, channels, conv)
        self.conv2 = Dense(3 * channels, channels, conv)
        self.LFF = conv(4 * channels, channels, 1)

    def forward(self, x: Tensor, flags: Tensor | None) -> Tensor:
        h = self.conv2(self.conv1(self.conv0(x, flags), flags), flags)
        return self.LFF(h, flags) + x


class Level(nn.Module):
    """Dense blocks in sequence."""

    def __init__(self, channels: int, blocks: int, conv: partial[Conv]) -> None:
        super().__init__()
        for number in range(1, blocks + 1):
            self.add_module(f"layer{number}", DenseBlock(channels, conv))

    def forward(self, x: Tensor, flags: Tensor | None) -> Tensor:
        for block in self.children():
            x = block(x, flags)
        return x


class ShallowModule(nn.Module):
    """SCM: features of a reduced image, next to the image itself."""

    def __init__(self, channels: int, conv: partial[Conv]) -> None:
        super().__init__()
        self.layer1 = conv(3, channels // 4, 3)
        self.layer2 = conv(channels // 4, channels // 2, 1)
        self.layer3 = conv(channels // 2, channels // 2, 3)
        self.layer4 = conv(channels // 2, channels - 3, 1)
        self.conv = conv(channels, channels, 1)

    def forward(self, image: Tensor, flags: Tensor | None) -> Tensor:  # [B, 3, H, W] -> [B, C, H, W]
        h = image
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            h = F.gelu(layer(h, flags))
        return self.conv(torch.cat([image, h], dim=1), flags)


class Attend(nn.Module):
    """FAM: features plus a convolution of their product with the features of the reduced image."""

    def __init__(self, channels: int, conv: partial[Conv]) -> None:
        super().__init__()
        self.merge = conv(channels, channels, 3)

    def forward(self, features: Tensor, shallow: Tensor, flags: Tensor | None) -> Tensor:
        return features + self.merge(features * shallow, flags)


class Fuse(nn.Module):
    """AFF: the three levels at the size of one of them, fused."""

    def __init__(self, channels: int, outputs: int, conv: partial[Conv]) -> None:
        super().__init__()
        self.conv1 = conv(channels, outputs, 1)
        self.conv2 = conv(outputs, outputs, 3)

    def forward(self, levels: list[Tensor], flags: Tensor | None) -> Tensor:
        return self.conv2(F.gelu(self.conv1(torch.cat(levels, dim=1), flags)), flags)


def _every(x: Tensor, step: int) -> Tensor:
    return x[:, :, ::step, ::step]


def _repeated(x: Tensor, times: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(times))


class WGWS(Phased):
    """Learning Weather-General and Weather-Specific Features (WGWS-Net; Zhu et al., CVPR 2023).

    Three levels that learn the residual of the image. `stage: 1` is the weather-general network. `stage: 2` freezes
    its convolutions and adds to each one residual kernel per weather, of which those of `task` [B] act. Without
    `task` the general network alone restores. `start_from` carries the weights of stage 1 over to stage 2.
    `stage: both` is the former first, and then the latter, to which the curriculum `two_stage` with `first: network`
    brings it.
    `forward_features` gives "indicators" [B], the sum of |I_k| of the image's weather over the convolutions. Any H and
    W: reflected right and bottom up to a multiple of 4 and cropped after.

    `residual_kernel: 1` is the authors' K1, `3` their K3. Their base is 18 in their settings 1 and 3
    and 20 in setting 2, their order of weathers snow, rain, raindrop. Their code has no license.

    Departures: each image of a batch has its own weather, where the authors make one step per weather; `tasks`
    replaces the fixed three. As in their code, stage 2 drops the biases of stage 1.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "Encoder.2"
    frozen_in: ClassVar[Mapping[int, tuple[str, ...]]] = {
        1: ("*_residual", "*_indicator"),
        2: tuple(f"{part}*.layer.{name}" for part in WEATHER_PARTS for name in ("weight", "bias")),
    }

    def __init__(
        self,
        *,
        base: int = 18,
        blocks: int = 6,
        stage: Literal[1, 2, "both"] = 1,
        tasks: int = 3,
        residual_kernel: Literal[1, 3] = 1,
    ) -> None:
        super().__init__()
        if base < 4:
            raise ValueError(f"base is {base}: the module on the half image needs at least 4")
        self.weathers = 0 if stage == 1 else tasks
        conv = partial(Conv, weathers=self.weathers, residual=residual_kernel, both=stage == "both")
        widths = (base, 2 * base, 4 * base)
        self.Encoder = nn.ModuleList(Level(width, blocks, conv) for width in widths)
        self.feat_extract = nn.ModuleList(
            [
                conv(3, base, 3),
                conv(base, 2 * base, 3, 2),
                conv(2 * base, 4 * base, 3, 2),
                Up(4 * base, 2 * base),
                Up(2 * base, base),
                conv(base, 3, 3),
            ]
        )
        self.Decoder = nn.ModuleList(Level(width, blocks, conv) for width in reversed(widths))
        self.Convs = nn.ModuleList([conv(4 * base, 2 * base, 1), conv(2 * base, base, 1)])
        self.AFFs = nn.ModuleList(Fuse(7 * base, width, conv) for width in widths)
        self.FAM1 = Attend(4 * base, conv)
        self.SCM1 = ShallowModule(4 * base, conv)
        self.FAM2 = Attend(2 * base, conv)
        self.SCM2 = ShallowModule(2 * base, conv)
        self.unused = tuple(key for key, parameter in self.named_parameters() if not parameter.requires_grad)
        if stage == "both":
            self.begin_phases()

    def use_phase(self, number: int) -> None:
        for module in self.modules():
            if isinstance(module, WeatherConv):
                module.general = number == 1

    def start_from(self, general: Mapping[str, Tensor]) -> None:
        """Copy the weights of a stage 1 network. Stage 2 lacks 168 of its biases, which are dropped."""
        ours = self.state_dict()
        self.load_state_dict({**ours, **{key: value for key, value in general.items() if key in ours}})

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W], [B] -> [B, 3, H, W]
        return self._restored(x, task)

    def _restored(self, x: Tensor, task: Tensor | None) -> Tensor:
        height, width = x.shape[-2:]
        padded = pad_to(x, 4, "reflect")
        flags = None if task is None or not self.weathers else F.one_hot(task, self.weathers).to(x.dtype)  # [B, K]
        r1, r2, z = self._encoded(padded, flags)
        return (self._decoded(r1, r2, z, flags) + padded)[:, :, :height, :width]

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the restored images [B, 3, H, W], and "indicators" [B]; these are 0 where no branch acts."""
        convs = [module for module in self.modules() if isinstance(module, WeatherConv) and not module.general]
        size = x.new_zeros(len(x))
        if task is not None and convs:
            size = torch.stack([one.indicators() for one in convs]).sum(0)[task]
        return self._restored(x, task), {"indicators": size}

    def _encoded(self, x: Tensor, flags: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        extract, encoder = self.feat_extract, self.Encoder
        half = _every(x, 2)
        r1 = encoder[0](F.gelu(extract[0](x, flags)), flags)
        h = self.FAM2(F.gelu(extract[1](r1, flags)), self.SCM2(half, flags), flags)
        r2 = encoder[1](h, flags)
        h = self.FAM1(F.gelu(extract[2](r2, flags)), self.SCM1(_every(half, 2), flags), flags)
        return r1, r2, encoder[2](h, flags)

    def _decoded(self, r1: Tensor, r2: Tensor, z: Tensor, flags: Tensor | None) -> Tensor:
        extract, decoder = self.feat_extract, self.Decoder
        full = self.AFFs[0]([r1, _repeated(r2, 2), _repeated(z, 4)], flags)
        half = self.AFFs[1]([_every(r1, 2), r2, _repeated(z, 2)], flags)
        quarter = self.AFFs[2]([_every(r1, 4), _every(r2, 2), z], flags)
        h = F.gelu(extract[3](decoder[0](quarter, flags), flags))
        h = decoder[1](F.gelu(self.Convs[0](torch.cat([h, half], dim=1), flags)), flags)
        h = F.gelu(extract[4](h, flags))
        h = decoder[2](F.gelu(self.Convs[1](torch.cat([h, full], dim=1), flags)), flags)
        return extract[5](h, flags)
