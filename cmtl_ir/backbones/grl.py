"""GRL. Shapes: B images, C channels, H x W pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import image_keys, rising_rates
from cmtl_ir.backbones._stripe_blocks import SQUEEZE, Layout, StripeBlock
from cmtl_ir.backbones._stripe_geometry import geometry
from cmtl_ir.backbones._upsample import check_upsampler, direct_steps, shuffle_steps
from cmtl_ir.backbones.swinir import MEAN, UPSAMPLER_CHANNELS

Sizes = Sequence[int | None]


class Stage(nn.Module):
    """x + conv(blocks x)."""

    def __init__(self, channels: int, blocks: list[StripeBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, layouts: Sequence[Layout], keys: Tensor) -> Tensor:  # [B, H, W, C]
        h = x
        for number, block in enumerate(self.blocks):
            h = block(h, layouts[number % len(layouts)], keys)
        return x + self.conv(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Upsampler(nn.Module):
    """Sub-pixel convolutions under the authors' name, `up`."""

    def __init__(self, steps: list[nn.Module]) -> None:
        super().__init__()
        self.up = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


class GRL(nn.Module):
    """Efficient and Explicit Modelling of Image Hierarchies for Image Restoration (Li et al., CVPR 2023).

    arXiv 2303.00748. Window attention next to attention in long stripes through anchors, which stand for
    `anchor_factor` x `anchor_factor` pixels each. `heads` counts those of each branch. The defaults are GRL-S for
    denoising. Tiny is width 64. Base is width 180, depths (4, 4, 8, 8, 8, 4, 4), heads 3 and `local_connection`.
    A stripe has a fixed side where `stripe` has a number, or the map's side divided by the number in `stripe_groups`
    (published for super-resolution: (8, None) and (None, 4)). Every other block has its stripes upright.

    Any H and W: reflected right and bottom up to a multiple of the largest of window, stripes and groups (128 in the
    published denoisers; with zeros where the image is too small to reflect) and cropped after. With an `upsampler`
    the output is [B, 3, scale H, scale W].

    The authors' weights are under the MIT licence. Their checkpoints hold tables, indices and masks for one image
    size, which are not loaded: they are computed in each pass for the size of the image. Departures: with
    `stripe_groups` the authors' code runs on square images only; stochastic depth reads its coin off the sample's
    pixels (see DropPath). Raises ValueError for sizes that do not divide the padding, a width that the heads do not
    divide, and an upsampler that does not fit the scale.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "conv_after_body"
    recomputed: tuple[str, ...] = ("table_*", "index_*", "mask_*")
    mean: Tensor

    def __init__(
        self,
        *,
        width: int = 128,
        depths: Sequence[int] = (4, 4, 4, 4),
        heads: int = 2,
        window: int = 16,
        stripe: Sizes = (64, 128),
        stripe_groups: Sizes = (None, None),
        stripe_shift: bool = True,
        anchor_factor: int = 4,
        expansion: float = 2.0,
        local_connection: bool = False,
        drop_path: float = 0.1,
        upsampler: Literal["", "pixelshuffle", "pixelshuffledirect"] = "",
        scale: int = 1,
        value_range: float = 1.0,
    ) -> None:
        super().__init__()
        check_upsampler(upsampler, scale)
        if width % (2 * heads) or (local_connection and width < SQUEEZE):
            raise ValueError(f"width {width} must be a multiple of 2 * {heads}, and {SQUEEZE} with a local connection")
        self.multiple = _multiple(window, stripe, stripe_groups, anchor_factor)
        self.window, self.stripe, self.groups, self.factor = window, tuple(stripe), tuple(stripe_groups), anchor_factor
        self.stripe_shift, self.scale, self.value_range = stripe_shift, scale, value_range
        # The authors' constants have float32's precision in any dtype.
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.norm_start = nn.LayerNorm(width)
        block = partial(StripeBlock, width, heads, int(width * expansion), anchor_factor, local=local_connection)
        self.layers = _stages(width, depths, drop_path, block)
        self.norm_end = nn.LayerNorm(width)
        self.conv_after_body = nn.Conv2d(width, width, 3, padding=1)
        self._make_ending(width, upsampler)
        self.apply(_initialise)

    def _make_ending(self, width: int, upsampler: str) -> None:
        self.upsampler = upsampler
        if upsampler == "pixelshuffledirect":
            self.upsample = Upsampler(direct_steps(width, self.scale))
            return
        if upsampler == "pixelshuffle":
            self.conv_before_upsample = nn.Sequential(
                nn.Conv2d(width, UPSAMPLER_CHANNELS, 3, padding=1), nn.LeakyReLU(0.01)
            )
            self.upsample = Upsampler(shuffle_steps(UPSAMPLER_CHANNELS, self.scale))
            width = UPSAMPLER_CHANNELS
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, scale H, scale W]
        height, width = x.shape[-2:]
        mean = self.mean.to(x.dtype)
        padded = (_padded(x, self.multiple) - mean) * self.value_range
        first = self.conv_first(padded)
        restored = self._ending(
            padded, self.conv_after_body(self._deep(first, self._layouts(padded), image_keys(x))) + first
        )
        return (restored / self.value_range + mean)[:, :, : height * self.scale, : width * self.scale]

    def _deep(self, features: Tensor, layouts: list[Layout], keys: Tensor) -> Tensor:  # [B, C, H, W]
        h = self.norm_start(features.permute(0, 2, 3, 1))
        for layer in self.layers:
            h = layer(h, layouts, keys)
        return self.norm_end(h).permute(0, 3, 1, 2)

    def _layouts(self, like: Tensor) -> list[Layout]:  # [B, 3, H, W]
        """Layouts of four blocks in sequence, after which they repeat."""
        sides = (like.shape[2], like.shape[3])
        half, size = self.window // 2, (self.window, self.window)
        windows = [geometry(sides, size, shift, 1, like) for shift in ((half, half), (0, 0))]
        layouts = []
        for number in range(4):
            turned = slice(None, None, -1 if number % 2 else 1)
            lengths = [
                (given, given // 2) if given is not None else (side // (groups or 1), side // (2 * (groups or 1)))
                for given, groups, side in zip(self.stripe[turned], self.groups[turned], sides, strict=True)
            ]
            stripe = (lengths[0][0], lengths[1][0])
            shift = (lengths[0][1], lengths[1][1]) if self.stripe_shift and number >= 2 else (0, 0)
            layouts.append(Layout(windows[number % 2], geometry(sides, stripe, shift, self.factor, like)))
        return layouts

    def _ending(self, padded: Tensor, features: Tensor) -> Tensor:
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(features)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(self.conv_before_upsample(features)))
        return padded + self.conv_last(features)


def _stages(width: int, depths: Sequence[int], drop_path: float, block: Callable[..., StripeBlock]) -> nn.ModuleList:
    rates = iter(rising_rates(drop_path, sum(depths)))
    blocks = [
        [block(drop=next(rates), place=f"layers.{number}.{place}") for place in range(depth)]
        for number, depth in enumerate(depths)
    ]
    return nn.ModuleList(Stage(width, one) for one in blocks)


def _multiple(window: int, stripe: Sizes, groups: Sizes, factor: int) -> int:
    """What the sides are padded to a multiple of. Raises ValueError for sizes that do not fit each other."""
    if len(stripe) != 2 or len(groups) != 2 or any((stripe[axis] is None) == (groups[axis] is None) for axis in (0, 1)):
        raise ValueError(f"each of two axes has a size in stripe {stripe} or a number in stripe_groups {groups}")
    lengths = [s for s in stripe if s is not None]
    needed = [window, *lengths, *(g * factor for g in groups if g is not None)]
    if any(max(needed) % one for one in needed) or any(length % factor for length in lengths):
        raise ValueError(f"sizes {needed} must divide the largest of them, and stripes be multiples of {factor}")
    return max(needed)


def _padded(x: Tensor, multiple: int) -> Tensor:
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    reflected = height > bottom and width > right
    return F.pad(x, (0, right, 0, bottom), mode="reflect" if reflected else "constant")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
