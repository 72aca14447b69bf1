"""PromptGIP. Shapes: B images, s x s pixels of a picture, n tokens of a picture, D channels of the encoder."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import image_keys, pad_to
from cmtl_ir.backbones._tiles import Tiles
from cmtl_ir.backbones._vit import Block, PatchEmbed, unpatchified
from cmtl_ir.base import keyed

LARGEST = 512  # pixels a side for which there are positions
EXAMPLE_SIDE = 64  # of a learned example
VISIBLE = 0.25  # share of the tokens of both answers that training shows
FINE = 1e-6

Pair = tuple[Tensor, Tensor]


class Head(nn.Module):
    """Three convolutions that refine a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, 64, 3, padding=1)
        self.HRconv = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_last = nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, s, s]
        h = F.leaky_relu(self.conv_first(x), 0.1)
        return self.conv_last(F.leaky_relu(self.HRconv(h), 0.1))


def sinusoids(positions: Tensor, channels: int) -> Tensor:  # [N] -> [N, channels] float64
    """sin and cos of position / 10000^(2j / channels), alternating."""
    exponents = torch.arange(0, channels, 2, device=positions.device).double() / channels
    angles = positions.double()[:, None] / 10000**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class PromptGIP(nn.Module):
    """Unifying Image Processing as Visual Prompting Question Answering (PromptGIP; Liu et al., ICML 2024).

    A masked autoencoder over four pictures: a degraded example and its answer say what to do, the degraded image is
    the question, the fourth picture the answer. `example` is the pair of pictures [B, 3, h, w], resized to the image
    where their sizes differ. Without it each `task` [B] has a learned pair, and without `task` the mean of all learned
    pairs is shown. `masked` is the pass of the authors' training. Any H and W: reflected right and bottom up to a
    square whose side is a multiple of `patch`. Larger images than `size` are restored in overlapping tiles.

    Departures: the authors show training pairs or the user's files, nothing learned. Their weights (no license) have
    no learned pairs: `tasks: 0` loads them.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "norm"

    def __init__(
        self,
        *,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        patch: int = 16,
        size: int = 256,
        tasks: int = 7,
    ) -> None:
        super().__init__()
        if size % patch or size > LARGEST:
            raise ValueError(f"size is {size}: it must be a multiple of patch ({patch}) and at most {LARGEST}")
        self.patch, self.size = patch, size
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, decoder_width))
        self.patch_embed = PatchEmbed(patch, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=FINE)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.decoder_blocks = nn.ModuleList(Block(decoder_width, decoder_heads) for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=FINE)
        self.decoder_pred = nn.Linear(decoder_width, 3 * patch**2)
        self.CNN_Head = Head()
        if tasks:
            self.examples = nn.Parameter(0.5 + 0.02 * torch.randn(tasks, 6, EXAMPLE_SIDE, EXAMPLE_SIDE))

    def forward(
        self,
        x: Tensor,
        task: Tensor | None = None,
        example: Pair | None = None,
        target: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Restore [B, 3, H, W]. Raises ValueError if there is neither an example nor a learned pair.

        With the clean images as `target` [B, 3, H, W], and `keys` [B], return what `masked` returns instead: the second
        answer, and the rest by name with both as "answers".
        """
        height, width = x.shape[-2:]
        if target is not None:
            answers, found = self.masked(x, target, task, example, keys)
            return answers[:, 1, :, :height, :width], {"answers": answers, **found}
        side = min(self._multiple(max(height, width)), self.size)
        padded = pad_to(x, 1, "reflect", smallest=side)
        tiles = Tiles((padded.shape[2], padded.shape[3]), side, side - side // 4)
        questions = tiles.cut(padded)
        first, second = (
            one[:, None].expand(-1, len(tiles.corners), -1, -1, -1).flatten(0, 1)
            for one in self._example(x, task, example, side)
        )
        pictures = torch.stack([first, second, questions, torch.zeros_like(questions)], dim=1)
        tokens = (side // self.patch) ** 2
        visible = torch.arange(3 * tokens, device=x.device).expand(len(pictures), -1)
        answer = self.CNN_Head(self._predicted(pictures, visible)[:, 3])
        return tiles.averaged(answer)[:, :, :height, :width]

    def masked(
        self,
        x: Tensor,
        target: Tensor,
        task: Tensor | None = None,
        example: Pair | None = None,
        keys: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The training pass: a random quarter of the tokens of both answers is visible.

        Returns both answers after the head [B, 2, 3, s, s], and "patches", the same before the head, "truth", what
        they should be, and "hidden" [B, 2, 1, s, s], 1 for every pixel of a hidden token. `keys` [B] decide which
        tokens are visible; without them the pixels of x do. The objective `masked_answers` is the authors' loss.
        """
        side = self._multiple(max(x.shape[-2:]))
        if side > LARGEST:
            raise ValueError(f"PromptGIP has positions for {LARGEST} pixels a side, not for {side}")
        question, truth = (pad_to(one, 1, "reflect", smallest=side) for one in (x, target))
        first, second = self._example(x, task, example, side)
        pictures = torch.stack([first, second, question, truth], dim=1)
        tokens = (side // self.patch) ** 2
        keys = keyed.substream(image_keys(x) if keys is None else keys, "visible")
        order = keyed.uniform(keys, (2 * tokens,)).argsort(1)
        shown = order[:, : int(2 * tokens * VISIBLE)]  # of the tokens of pictures 2 and 4
        shown = shown + tokens + tokens * (shown >= tokens)
        questions = torch.arange(tokens, device=x.device).expand(len(x), -1)
        predicted = self._predicted(pictures, torch.cat([questions, 2 * tokens + questions, shown], dim=1))[:, 1::2]
        answers = self.CNN_Head(predicted.flatten(0, 1)).unflatten(0, (-1, 2))
        hidden = x.new_ones(len(x), 4 * tokens).scatter(1, shown, 0.0).unflatten(1, (4, tokens, 1))[:, 1::2]
        pixels = hidden.flatten(0, 1).repeat(1, 1, self.patch**2)
        grid = side // self.patch
        where = unpatchified(pixels, self.patch, (grid, grid)).unflatten(0, (-1, 2))
        return answers, {"patches": predicted, "truth": pictures[:, 1::2], "hidden": where}

    def _multiple(self, length: int) -> int:
        return length + -length % self.patch

    def _example(self, x: Tensor, task: Tensor | None, example: Pair | None, side: int) -> Pair:
        if example is None:
            if not hasattr(self, "examples"):
                raise ValueError("PromptGIP without learned pairs (tasks: 0) needs model(x, example=(input, answer))")
            examples = self.examples.mean(0, keepdim=True).expand(len(x), -1, -1, -1)
            example = (examples if task is None else self.examples[task]).split(3, dim=1)
        first, second = (
            one if one.shape[-2:] == (side, side) else F.interpolate(one, (side, side), mode="bilinear")
            for one in example
        )
        return first, second

    def _predicted(self, pictures: Tensor, visible: Tensor) -> Tensor:  # [B, 4, 3, s, s], [B, V] -> [B, 4, 3, s, s]
        """The four pictures that the decoder makes of the visible tokens."""
        batch, grid = len(pictures), pictures.shape[-1] // self.patch
        places = torch.arange(4, device=visible.device) * (LARGEST // self.patch) ** 2
        positions = (1 + places[:, None] + torch.arange(grid**2, device=visible.device)).flatten()
        tokens = self.patch_embed(pictures.flatten(0, 1)).flatten(2).transpose(1, 2)
        encoded = self._encoded(tokens.reshape(batch, len(positions), -1), positions, visible)
        h = self._decoded(encoded, positions, visible)
        return unpatchified(h.unflatten(1, (4, -1)).flatten(0, 1), self.patch, (grid, grid)).unflatten(0, (-1, 4))

    def _encoded(self, tokens: Tensor, positions: Tensor, visible: Tensor) -> Tensor:  # -> [B, 1 + V, D']
        tokens = tokens + sinusoids(positions, tokens.shape[2]).to(tokens.dtype)
        h = tokens.gather(1, visible[:, :, None].expand(-1, -1, tokens.shape[2]))
        class_token = self.cls_token + sinusoids(positions[:1] * 0, h.shape[2]).to(h.dtype)
        h = torch.cat([class_token.expand(len(h), -1, -1), h], dim=1)
        for block in self.blocks:
            h = block(h)
        return self.decoder_embed(self.norm(h))

    def _decoded(self, h: Tensor, positions: Tensor, visible: Tensor) -> Tensor:  # [B, 1 + V, D'] -> [B, 4n, 3 p p]
        full = self.mask_token.to(h.dtype).expand(len(h), len(positions), -1)
        full = full.scatter(1, visible[:, :, None].expand(-1, -1, h.shape[2]), h[:, 1:])
        positions = torch.cat([positions[:1] * 0, positions])
        h = torch.cat([h[:, :1], full], dim=1) + sinusoids(positions, h.shape[2]).to(h.dtype)
        for block in self.decoder_blocks:
            h = block(h)
        return self.decoder_pred(self.decoder_norm(h)[:, 1:])
