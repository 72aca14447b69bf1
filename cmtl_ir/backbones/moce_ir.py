"""MoCE-IR. Shapes: B images, C channels of a level, H x W pixels, E experts, D decoder blocks, w side of a window."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._experts import largest, mixed
from cmtl_ir.backbones._four_levels import Downsample, PatchEmbed, Upsample, check_four_levels
from cmtl_ir.backbones._layers import image_keys, pad_to
from cmtl_ir.backbones._transposed_attention import ChannelAttention, CrossChannelAttention, GatedFeedForward, depthwise
from cmtl_ir.backbones.restormer import Norm
from cmtl_ir.base import keyed


class Routing(NamedTuple):
    """What one mixture needs for its balance loss, per sample."""

    importance: Tensor  # [B, E]
    load: Tensor  # [B, E]


class Signals(NamedTuple):
    """What the decoder blocks read in addition to their features."""

    frequency: Tensor  # e [B, 8 width]
    keys: Tensor | None  # [B] int64, of the router's noise; None: no noise


# --------------------------------------------------------------------------------------------------------- experts


def circular_convolution(x: Tensor, kernel: Tensor, window: int) -> Tensor:
    """Convolve both maps [B, C, H, W] circularly in each window; zeros are added right and bottom and cropped after."""
    height, width = x.shape[-2:]
    exact = torch.promote_types(x.dtype, torch.float32)  # torch has no bfloat16 FFT

    def windows(one: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, rows, columns, w, w]
        padded = pad_to(one.to(exact), window, "constant")
        return padded.unflatten(3, (-1, window)).unflatten(2, (-1, window)).transpose(3, 4)

    spectrum = torch.fft.rfft2(windows(x)) * torch.fft.rfft2(windows(kernel))
    y = torch.fft.irfft2(spectrum, s=(window, window)).transpose(3, 4).flatten(4).flatten(2, 3)
    return y[:, :, :height, :width].to(x.dtype)


class FrequencyAttention(nn.Module):
    """FA: queries and keys meet by circular convolution within windows and scale the values."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.q = nn.Conv2d(channels, channels, 1, bias=False)
        self.kv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.q_dwconv = depthwise(channels, 3, bias=True)
        self.kv_dwconv = depthwise(2 * channels, 7, bias=True)
        self.norm = Norm(channels, "WithBias")
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        key, value = self.kv_dwconv(self.kv(x)).chunk(2, dim=1)
        convolved = circular_convolution(self.q_dwconv(self.q(x)), key, self.window)
        return self.proj_out(self.norm(convolved) * value)


class Expert(nn.Module):
    """Frequency attention at a reduced number of channels, gated by the shared attention's features."""

    def __init__(self, channels: int, rank: int, window: int) -> None:
        super().__init__()
        pairs = [(channels, rank), (channels, rank), (rank, channels)]
        self.proj = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in pairs)
        self.body = FrequencyAttention(rank, window)

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:  # [B, C, H, W] each
        return x + self.proj[2](self.body(self.proj[0](x)) * F.silu(self.proj[1](shared)))


class Router(nn.Module):
    """Expert probabilities from the features' mean and the frequency vector."""

    complexity: Tensor  # [E], parameters of an expert relative to the largest

    def __init__(self, channels: int, frequencies: int, experts: nn.ModuleList) -> None:
        super().__init__()
        sizes = [sum(one.numel() for one in expert.parameters()) for expert in experts]
        self.register_buffer("complexity", torch.tensor(sizes) / max(sizes))
        count = len(experts)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, count, bias=False))
        self.freq_gate = nn.Linear(frequencies, count, bias=False)

    def forward(self, x: Tensor, frequency: Tensor) -> Tensor:
        """Return the logits [B, E]."""
        return self.gate(x) + self.freq_gate(frequency)


class Adapter(nn.Module):
    """MoE: the chosen experts' outputs, weighted by probabilities that are not renormalised."""

    def __init__(
        self, channels: int, frequencies: int, *, experts: int, chosen: int, with_complexity: bool, place: str
    ) -> None:
        super().__init__()
        self.chosen, self.with_complexity, self.key = chosen, with_complexity, keyed.name_key("MoCE-IR", place)
        # Rank and window grow together: the last expert is as wide as the level.
        self.experts = nn.ModuleList(
            nn.Sequential(Expert(channels, channels >> (experts - 1 - i), 4 << i)) for i in range(experts)
        )
        self.proj_out = nn.Conv2d(channels, channels, 1, bias=False)
        self.routing = Router(channels, frequencies, self.experts)

    def forward(self, x: Tensor, shared: Tensor, signals: Signals) -> tuple[Tensor, Routing]:
        logits = self.routing(x, signals.frequency)  # [B, E]
        count = logits.shape[1]
        noisy = logits
        if signals.keys is not None:
            drawn = torch.special.ndtri(keyed.uniform(keyed.mix(signals.keys ^ self.key), (count,)))
            noisy = logits + drawn.to(logits.dtype) / count
        probabilities = noisy.softmax(1)
        weights = probabilities * largest(probabilities.detach(), self.chosen)
        run = [partial(expert, x, shared) for place in self.experts for expert in place.children()]
        return self.proj_out(mixed(weights, run)), self._balance(logits, noisy)

    def _balance(self, logits: Tensor, noisy: Tensor) -> Routing:
        count = logits.shape[1]
        importance = logits.softmax(1)
        if self.with_complexity:
            importance = importance * self.routing.complexity
        threshold = noisy.topk(self.chosen, dim=1).values[:, -1:]
        margin = (logits - threshold).to(torch.promote_types(logits.dtype, torch.float32))
        return Routing(importance, torch.special.ndtr(margin * count))


# --------------------------------------------------------------------------------------------------------- blocks


class EncoderBlock(nn.Module):
    """A Restormer block with biases, under this network's names."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(channels, "WithBias") for _ in range(2))
        self.mixer = ChannelAttention(channels, heads, bias=True)
        self.ffn = GatedFeedForward(channels, expansion, bias=True)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        x = x + self.mixer(self.norms[0](x))
        return x + self.ffn(self.norms[1](x))


class DecoderBlock(nn.Module):
    """Shared attention and experts side by side, joined by cross-attention; then feed-forward."""

    def __init__(self, channels: int, heads: int, expansion: float, adapter: Adapter) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(channels, "WithBias") for _ in range(2))
        self.proj = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(2))
        self.shared = ChannelAttention(channels, heads)
        self.mixer = CrossChannelAttention(channels, heads, size=7)
        self.ffn = GatedFeedForward(channels, expansion)
        self.adapter = adapter

    def forward(self, x: Tensor, signals: Signals) -> tuple[Tensor, Routing]:
        normed = self.norms[0](x)
        shared = self.shared(self.proj[0](normed))
        adapted, routing = self.adapter(self.proj[1](normed), shared, signals)
        x = x + self.mixer(adapted, shared)
        return x + self.ffn(self.norms[1](x)), routing


class Stage(nn.Module):
    """Blocks under the authors' name, `layers`."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        for layer in self.layers:
            x = layer(x)
        return x


class HighPass(nn.Module):
    """A depthwise convolution that starts as the Laplacian of the eight neighbours and is trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = depthwise(channels, 3, bias=False)
        with torch.no_grad():
            self.conv.weight.fill_(-1.0)[:, :, 1, 1] = 8.0

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class FrequencyEmbedding(nn.Module):
    """The latent's high frequencies as one vector: [B, C, H, W] -> [B, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.high_conv = nn.Sequential(HighPass(channels), nn.GELU())
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.high_conv(x).mean((2, 3)))


class MoCEIR(nn.Module):
    """Complexity Experts are Task-Discriminative Learners for Any Image Restoration (Zamfir et al., CVPR 2025).

    MoCE-IR: a Restormer-like encoder; every decoder block chooses among experts of growing width and window by the
    latent's high frequencies. `width=32` is MoCE-IR-S. `task` is not read. Any H and W: reflected right and bottom up
    to a multiple of 8 and cropped after.

    `forward_features` also returns the router's "importance" and "load", [B, decoder blocks, `experts`]. The authors'
    balance loss of a block is half the sum of (std / mean)^2 over the experts of both, after summing importance and
    averaging load over the batch; it is averaged over blocks. Applied to one sample at a time it needs no batch sums,
    which is the form for row gradients and a departure.

    With `chosen=1` the restored image depends on which expert is chosen and not on its probability, because the
    cross-attention normalises its queries. The router then learns from the balance loss alone.

    Departures: the router's noise is a function of the image's pixels and drawn in training only (`router_noise`; the
    authors draw it at test time too). Experts are chosen per sample in any batch. In training the experts not chosen
    run with weight 0, so multiply-adds do not depend on the choice. The authors' weights (Apache-2.0) load strictly.
    """

    couples_samples = False
    latent_module: ClassVar[str] = "latent"
    unused: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        decoder_blocks: Sequence[int] = (2, 4, 4),
        refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.0,
        experts: int = 4,
        chosen: int = 1,
        with_complexity: bool = False,
        router_noise: bool = True,
    ) -> None:
        super().__init__()
        check_four_levels(blocks, heads)
        if not 1 <= chosen <= experts:
            raise ValueError(f"chosen is {chosen}: it must be between 1 and experts ({experts})")
        self.router_noise = router_noise
        widths = [width << level for level in range(4)]

        def stage(channels: int, count: int, head: int) -> Stage:
            return Stage([EncoderBlock(channels, head, expansion) for _ in range(count)])

        def decoder_stage(level: int) -> Stage:
            make = partial(
                Adapter, widths[level], widths[3], experts=experts, chosen=chosen, with_complexity=with_complexity
            )
            places = [f"{level}.{number}" for number in range(decoder_blocks[level])]
            return Stage([DecoderBlock(widths[level], heads[level], expansion, make(place=place)) for place in places])

        self.patch_embed = PatchEmbed(width)
        self.freq_embed = FrequencyEmbedding(widths[3])
        self.enc = nn.ModuleList(
            nn.ModuleList([stage(widths[i], blocks[i], heads[i]), Downsample(widths[i])]) for i in range(3)
        )
        self.latent = stage(widths[3], blocks[3], heads[3])
        self.dec = nn.ModuleList(
            nn.ModuleList(
                [Upsample(2 * widths[i]), nn.Conv2d(2 * widths[i], widths[i], 1, bias=False), decoder_stage(i)]
            )
            for i in (2, 1, 0)
        )
        self.refinement = stage(width, refinement_blocks, heads[0])
        self.output = nn.Conv2d(width, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        return self.forward_features(x, task)[0]

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the restored images and {"importance": [B, D, E], "load": [B, D, E]}."""
        height, width = x.shape[-2:]
        padded = pad_to(x, 8, "reflect")
        h = self.patch_embed(padded)
        skips: list[Tensor] = []
        for level in self.enc:
            stage, down = level.children()
            skips.append(stage(h))
            h = down(skips[-1])
        h = self.latent(h)
        keys = image_keys(x) if self.training and self.router_noise else None
        signals = Signals(self.freq_embed(h), keys)
        routings: list[Routing] = []
        for level, skip in zip(self.dec, reversed(skips), strict=True):
            up, reduce, stage = level.children()
            h = reduce(torch.cat([up(h), skip], dim=1))
            for block in stage.get_submodule("layers").children():
                h, routing = block(h, signals)
                routings.append(routing)
        y = (self.output(self.refinement(h)) + padded)[:, :, :height, :width]
        importance, load = (torch.stack(parts, dim=1) for parts in zip(*routings, strict=True))
        return y, {"importance": importance, "load": load}
