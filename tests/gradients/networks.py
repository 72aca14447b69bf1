"""Networks of one idea each, for the claims about row gradients: every way in which a parameter can meet data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Use(nn.Module):
    """`forward(x)` is `use(x, *parameters)` between two convolutions, so that gradients pass through the idea."""

    def __init__(self, use: Callable[..., Any], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.own = nn.ParameterList([torch.randn(shape) for shape in shapes])
        self.register_buffer("index", torch.arange(4).flip(0))
        self.use = use

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        return self.last(self.use(self.first(x), *self.own, task=task, index=self.index))


def _use(use: Callable[..., Any], *shapes: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: Use(lambda x, *own, task, index: use(x, *own), *shapes)


def _module(*modules: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        net = Use(lambda x, **_: x)
        inner = nn.Sequential(*(module() for module in modules))
        net.inner, net.use = inner, lambda x, **_: inner(x)
        return net

    return build


class Twice(nn.Module):
    """One PReLU in two places, and a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.PReLU()
        self.unused = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor, task: Tensor) -> list[Tensor]:
        first = self.act(self.conv(x))
        return [first, self.act(self.conv(first))]


class Windows(nn.Module):
    """Attention in windows with a table of biases: data is [B * windows, ...], the table is indexed and permuted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.qkv = nn.Conv2d(3, 4, 1), nn.Linear(4, 12)
        self.table = nn.Parameter(torch.randn(7, 2))
        self.temperature = nn.Parameter(torch.randn(2, 1, 1))
        place = torch.arange(4)
        self.register_buffer("index", place[:, None] - place + 3)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        h = self.first(x).unfold(2, 2, 2).unfold(3, 2, 2)  # [B, 4, 4, 4, 2, 2]
        tokens = h.permute(0, 2, 3, 4, 5, 1).reshape(-1, 4, 4)  # [B * 16, 4 tokens, 4]
        q, k, v = self.qkv(tokens).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)  # [B * 16, 2 heads, 4, 2]
        bias = self.table[self.index.view(-1)].view(4, 4, 2).permute(2, 0, 1).contiguous()
        attention = (q @ k.transpose(2, 3) * self.temperature + bias.unsqueeze(0)).softmax(-1)
        return (attention @ v).reshape(len(x), -1)


class Prompts(nn.Module):
    """PromptIR's way: components weighted by a softmax of the image's own means, resized, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh, self.mix = nn.Linear(3, 5), nn.Conv2d(5, 3, 3, padding=1, bias=False)
        self.components = nn.Parameter(torch.rand(5, 2, 4, 4))
        self.by_task = nn.Parameter(torch.randn(7, 3, 1, 1))

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        weights = self.weigh(x.mean((2, 3))).softmax(1)[:, :, None, None, None]
        prompt = (weights * self.components[None].repeat(len(x), 1, 1, 1, 1)).sum(1)
        prompt = F.interpolate(prompt, x.shape[2:], mode="bilinear")
        return self.mix(torch.cat([x + self.by_task[task], prompt], 1))


def _distances(side: int) -> Tensor:
    """[side, side] made in the pass; with as many places as samples it could be taken for data."""
    place = torch.arange(side)
    return place[:, None] - place + side - 1


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "single_channel": _module(lambda: nn.Conv2d(4, 1, 1), lambda: nn.Conv2d(1, 4, 1)),
    "shared_and_unused": Twice,
    "windows": Windows,
    "prompts": Prompts,
    "strides": _module(lambda: nn.Conv2d(4, 6, 3, 2, 1), lambda: nn.ConvTranspose2d(6, 4, 2, 2)),
    "patches": _module(
        lambda: nn.Conv2d(4, 6, 2, 2), lambda: nn.Conv2d(6, 16, 1, bias=False), lambda: nn.PixelShuffle(2)
    ),
    "depthwise": _module(lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), lambda: nn.Conv2d(4, 4, 3, 1, 2, 2, 2)),
    "grouped_channels_last": _module(
        lambda: nn.Conv2d(4, 8, 1).to(memory_format=torch.channels_last),
        lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2).to(memory_format=torch.channels_last),
        lambda: nn.Conv2d(8, 4, 1),
    ),
    "same_padding": _module(lambda: nn.Conv2d(4, 4, 3, padding="same")),
    "group_norm": _module(lambda: nn.GroupNorm(2, 4), lambda: nn.InstanceNorm2d(4, affine=True), nn.PReLU),
    "prelu_channels": _module(lambda: nn.PReLU(4)),
    "batch_norm_eval": _module(lambda: nn.BatchNorm2d(4).eval()),
    "layer_norm": _module(lambda: nn.LayerNorm([4, 8, 8]), lambda: nn.LayerNorm(8, bias=False)),
    "scale": _use(lambda x, a, b: b * (x * a), (1, 4, 1, 1), (4, 8, 8)),
    "scalar": _use(lambda x, a, b: x * a - b, (), (1,)),
    "shift": _use(lambda x, a, b: (a - x) + (x - b), (1, 4, 1, 1), (8,)),
    "divide": _use(lambda x, a: x / (a * a + 1), (4, 1, 1)),
    "matmul": _use(lambda x, a: x @ a, (8, 8)),
    "einsum": _use(lambda x, a: torch.einsum("bchw,co->bohw", x, a), (4, 4)),
    "token": _use(lambda x, a: torch.cat([a.expand(len(x), -1, -1, -1), x], 2)[:, :, 1:], (1, 4, 1, 8)),
    "normalised_weight": _use(lambda x, a: F.conv2d(x, F.normalize(a, dim=1), padding=1), (4, 4, 3, 3)),
    "halves": _use(lambda x, a: x * a.chunk(2)[0] + a.chunk(2)[1], (8, 1, 1)),
    "where": _use(lambda x, a: torch.where(x > 0, a, x), (4, 1, 1)),
    "resized": _use(lambda x, a: x + F.interpolate(a, (8, 8), mode="bilinear"), (1, 4, 4, 4)),
    "by_place": _use(lambda x, a: x + a[_distances(4)].sum((0, 1))[:, None, None], (7, 4)),
    "indexed": lambda: Use(lambda x, a, task, index: x * a[index].sum(0) + a[task], (8, 4, 1, 1)),
}  # fmt: skip


def _in_place(x: Tensor, a: Tensor) -> Tensor:
    x = x * 1.0
    x *= a
    return x


class Hidden(torch.autograd.Function):
    """A third party's own Function: what it does with the parameter cannot be seen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor) -> Tensor:
        ctx.save_for_backward(x, a)
        return x * a

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, a = ctx.saved_tensors
        return grad * a, (grad * x).sum((0, 2, 3), keepdim=True)


def _turned(x: Tensor, a: Tensor) -> Tensor:
    return F.linear(x.permute(3, 2, 0, 1), a).permute(2, 3, 1, 0)  # the first dimension is the width: 8


UNSUITED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "in_place": (_use(_in_place, (4, 1, 1)), "mul_"),
    "hidden": (_use(Hidden.apply, (1, 4, 1, 1)), "own.0"),
    "turned": (_use(_turned, (4, 4)), "own.0"),
}
"""Networks that must go to `stream`, and what the reason names."""
