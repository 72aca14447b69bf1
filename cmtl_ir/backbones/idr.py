"""IDR. Shapes: B images, C channels of a level, H x W pixels of a level, T tasks, d the width, E = 8d."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._four_levels import Downsample, FourLevels, PatchEmbed, check_four_levels
from cmtl_ir.backbones._ingredients import Principle, Supervision
from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones._phases import Phased
from cmtl_ir.backbones.restormer import Norm, transformer_level

TOKENS = 24  # of the key of a task
KINDS = ("add", "conv", "point")
Operation = Literal["add", "conv", "point"]


class KeyAttention(nn.Module):
    """Attention of pixels to the tokens of a degradation's key."""

    def __init__(self, channels: int, heads: int, key_channels: int) -> None:
        super().__init__()
        self.heads = heads
        # The authors' weights hold the first three, which nothing reads.
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.q = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        )
        self.kv = nn.Linear(key_channels, 2 * channels)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:  # [B, C, H, W], [B, 24, E] -> [B, C, H, W]
        query = self._heads(self.q(x).flatten(2).transpose(1, 2))
        keys, values = self.kv(F.layer_norm(key, key.shape[2:])).chunk(2, dim=2)
        # All heads share the scale of the whole width.
        found = F.scaled_dot_product_attention(query, self._heads(keys), self._heads(values), scale=x.shape[1] ** -0.5)
        return self.project_out(found.transpose(2, 3).reshape(x.shape))

    def _heads(self, x: Tensor) -> Tensor:  # [B, N, C] -> [B, n, N, C / n]
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two pointwise convolutions around a depthwise one."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))


class Ingredients(nn.Module):
    """K: undo a degradation in feature space by the physical operation that made it."""

    def __init__(self, channels: int, heads: int, key_channels: int, tasks: int, expansion: float) -> None:
        super().__init__()
        self.norm1 = Norm(channels, "WithBias")
        self.attn = KeyAttention(channels, heads, key_channels)
        self.norm2 = Norm(channels, "WithBias")
        self.ffn = FeedForward(channels, expansion)
        self.principle = Principle(channels, tasks)
        self.SAM = Supervision(channels)

    def forward(
        self, features: Tensor, key: Tensor, image: Tensor, weights: Tensor, in_sequence: bool
    ) -> tuple[Tensor, Tensor]:
        """Features [B, C, H, W] and side image [B, 3, H, W].

        `weights` [B, 3] say how much of adding, convolving and scaling is done. `in_sequence`: the latter two act on
        the result of the first.
        """
        side, attended = self.SAM(features, image)
        degradation = self.attn(self.norm1(attended), key)
        h = self.principle(features, degradation, weights, in_sequence)
        return h + self.ffn(self.norm2(h)), side


class KeyMixer(nn.Module):
    """Mixes the singular vectors of all tasks' keys to the key of an unknown degradation."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.convU = nn.Conv2d(TOKENS * tasks, TOKENS, 1)
        self.convV = nn.Conv2d(TOKENS * tasks, TOKENS, 1)

    def forward(self, keys: Tensor, classes: Tensor) -> Tensor:  # [T, 24, E], [B, T] -> [B, 24, E]
        left, values, right = _singular(keys)
        mixed_left = self.convU(left.flatten(0, 1)[None, :, :, None])[0, :, :, 0]  # [24, 24]
        mixed_right = self.convV(right.flatten(0, 1)[None, :, :, None])[0, :, :, 0]  # [24, E]
        strength = classes @ values.to(classes.dtype)  # [B, 24]
        return (strength[:, None, :] * mixed_left.mT) @ mixed_right


@torch.no_grad()
def _singular(keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors [T, 24, 24] as rows, values [T, 24], right vectors [T, 24, E] as rows.

    The largest entry of a left vector is made positive: which sign it has otherwise depends on the library.
    """
    left, values, right = torch.linalg.svd(keys, full_matrices=False)
    left = left.mT
    signs = left.gather(2, left.abs().argmax(2, keepdim=True)).sign()
    return left * signs, values, right * signs


class IDR(Phased, FourLevels):
    """Ingredient-oriented Multi-Degradation Learning for Image Restoration (IDR; Zhang et al., CVPR 2023).

    Restormer whose encoder undoes each degradation by the operation that makes it: addition (noise, rain), convolution
    (blur), scaling (haze, low light). `stage: 1` learns a key for each `task` [B]; without `task` the class that the
    network itself finds most probable is taken. `stage: 2` freezes the keys and mixes their singular vectors by the
    class probabilities, so that it needs no task. `stage: both` is brought from the first to the second by the
    curriculum `two_stage` with `first: network`. `forward_features` gives the side images and the probabilities, which
    both stages supervise. Any H and W: reflected right and bottom up to a multiple of 8 and cropped after.

    `operations` names the operation of each task; their number is the number of tasks. Weights of the authors: MIT.

    Departures: each image of a batch has its own task. Singular vectors have their signs fixed: the authors' depend on
    the library, so that their stage 2 files fit only the machine that trained them.
    """

    frozen_in: ClassVar[Mapping[int, tuple[str, ...]]] = {1: ("dmixer.*",), 2: ("degra_key",)}
    membership: Tensor  # [T, 3]

    def __init__(
        self,
        *,
        width: int = 30,
        blocks: Sequence[int] = (2, 3, 3, 4),
        refinement_blocks: int = 2,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        stage: Literal[1, 2, "both"] = 1,
        operations: Sequence[Operation] = ("add", "add", "point", "conv", "point"),
    ) -> None:
        super().__init__()
        check_four_levels(blocks, heads)
        if 8 * width < TOKENS:
            raise ValueError(f"width is {width}: keys of {TOKENS} tokens need at least {TOKENS // 8}")
        self.stage = 2 if stage == 2 else 1
        counts, all_heads = (*blocks, refinement_blocks), (*heads, heads[0])

        def level(channels: int, number: int) -> nn.Sequential:
            return transformer_level(channels, counts[number], all_heads[number], expansion=expansion, norm="WithBias")

        ingredients = partial(Ingredients, key_channels=8 * width, tasks=len(operations), expansion=expansion)
        self.degra_key = nn.Parameter(torch.randn(len(operations), TOKENS, 8 * width), requires_grad=stage != 2)
        self.dmixer = KeyMixer(len(operations))
        self.register_buffer("membership", F.one_hot(torch.tensor([KINDS.index(one) for one in operations]), 3), False)
        self.patch_embed = PatchEmbed(width)
        for number in range(1, 4):
            channels = width << (number - 1)
            self.add_module(f"encoder_level{number}", level(channels, number - 1))
            self.add_module(f"kdp_level{number}", ingredients(channels, heads[number - 1]))
            self.add_module(f"down{number}_{number + 1}", Downsample(channels))
        self.latent = level(8 * width, 3)
        self.make_decoder(width, level)
        unread = {1: ("dmixer.*", "kdp_level?.principle.pred.*"), 2: ("degra_key",), "both": ()}[stage]
        self.unused = ("kdp_level?.attn.temperature", "kdp_level?.attn.qkv*", *unread)
        if stage == "both":
            self.begin_phases()

    def use_phase(self, number: int) -> None:
        self.stage = number

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        return self.forward_features(x, task)[0]

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The restored images, "side1" to "side3" and "classes" [B, 3, T], the class probabilities at three levels.

        The side images [B, 3, h, w] show the image, padded to a multiple of 8, at 1, 1/2 and 1/4 of its size.
        """
        height, width = x.shape[-2:]
        padded = pad_to(x, 8, "reflect")
        h = self.patch_embed(padded)
        skips: list[Tensor] = []
        found: dict[str, Tensor] = {}
        classes: list[Tensor] = []
        for number in range(1, 4):
            h = self.get_submodule(f"encoder_level{number}")(h)
            h, found[f"side{number}"], probabilities = self._undone(h, padded, task, number)
            classes.append(probabilities)
            skips.append(h)
            h = self.get_submodule(f"down{number}_{number + 1}")(h)
        found["classes"] = torch.stack(classes, dim=1)
        return self.decoded(self.latent(h), skips, padded)[:, :, :height, :width], found

    def _undone(self, h: Tensor, image: Tensor, task: Tensor | None, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features, side image and class probabilities after the ingredients of one level."""
        part = self.get_submodule(f"kdp_level{number}")
        assert isinstance(part, Ingredients)
        probabilities = part.principle.classes(h)  # [B, T]
        if self.stage == 1:
            chosen = probabilities.argmax(1) if task is None else task
            key, weights = self.degra_key[chosen], self.membership[chosen].to(h.dtype)
        else:
            key = self.dmixer(self.degra_key.detach(), probabilities)
            weights = probabilities @ self.membership.to(probabilities.dtype)
        resized = image if number == 1 else F.interpolate(image, h.shape[-2:], mode="bilinear")
        h, side = part(h, key, resized, weights, self.stage == 2)
        return h, side, probabilities
