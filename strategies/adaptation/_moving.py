"""What the adapters share that move weights: which parameters move, on which crop, and the steps of the optimizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.keyed import integers
from cmtl_ir.strategy.adaptation import AdaptationContext, Adapter

SMALL = 1e-7
"""Loss below which no step is made: rounding would become a full step of Adam."""
HEADS = "auxiliary."
"""Prefix of the parameters of heads, which do not restore."""
_NORM = re.compile(r"Norm(?:\dd)?$")

Named = list[tuple[str, nn.Parameter]]


class Moving(Adapter):
    """An adapter that moves weights. Its answer is one plain pass under the adapted weights."""

    params: str | list[str] = "all"
    """Parameters that move: all, norm (those of normalisation layers), bias, or patterns of names."""
    rate: float = Field(1e-5, ge=0)
    """Learning rate of Adam; 0: nothing moves."""
    steps: int = Field(5, ge=0)
    """Steps per image; 0: nothing moves."""
    side: int = Field(256, ge=8)
    """Largest side in pixels of the keyed crop of the image that the steps read."""

    @property
    def still(self) -> bool:
        """Whether nothing moves, so that the answer is that of `none`."""
        return self.steps == 0 or self.rate == 0

    def crop(self, degraded: Tensor, context: AdaptationContext) -> Tensor:
        """Return a keyed crop [1, 3, h, w] with sides of at most `side` pixels; a smaller image as it is."""
        height, width = degraded.shape[2:]
        high, wide = min(height, self.side), min(width, self.side)
        keys = torch.tensor([self.key(context, "crop")])
        top, left = (int(integers(keys + axis, 0, room + 1)) for axis, room in enumerate((height - high, width - wide)))
        return degraded[:, :, top : top + high, left : left + wide].contiguous(memory_format=torch.channels_last)

    def chosen(self, network: nn.Module, context: AdaptationContext) -> Named:
        """Return the parameters that move, and make them the only ones that have gradients."""
        named = moved_parameters(network, self.params)
        if self.params == "norm" and not named:
            context.note(f"{self.called}: the network has no normalisation layers; its biases move instead")
            named = moved_parameters(network, "bias")
        if not named:
            raise UserError(f"--adapt {self.called}: params {self.params}: no parameter of the network has such a name")
        network.requires_grad_(False)
        for _, parameter in named:
            parameter.requires_grad_(True)
        return named

    def minimise(
        self,
        named: Named,
        loss: Callable[[int], float],
        context: AdaptationContext,
        after: Callable[[], None] = lambda: None,
        least: float = SMALL,
    ) -> None:
        """Make up to `steps` steps of Adam. `loss` adds gradients for a step's number and returns the loss's value.

        `after` is called after each step. It ends early where the loss is below `least`.
        """
        optimizer = torch.optim.Adam([parameter for _, parameter in named], lr=self.rate)
        for number in range(self.steps):
            optimizer.zero_grad()
            if loss(number) < least:
                break
            optimizer.step()
            context.stepped()
            after()
        optimizer.zero_grad()


def moved_parameters(network: nn.Module, params: str | Sequence[str]) -> Named:
    """Return the parameters that `params` names, without those of heads: all, norm, bias, or patterns of names."""
    named = [(name, one) for name, one in network.named_parameters() if not name.startswith(HEADS)]
    if params == "all":
        return named
    if params == "norm":
        norms = [module for module in network.modules() if _NORM.search(type(module).__name__)]
        wanted = {id(one) for module in norms for one in module.parameters(recurse=False)}
        return [(name, one) for name, one in named if id(one) in wanted]
    if params == "bias":
        return [(name, one) for name, one in named if name.rpartition(".")[2] == "bias"]
    patterns = [params] if isinstance(params, str) else list(params)
    return [(name, one) for name, one in named if any(fnmatchcase(name, pattern) for pattern in patterns)]


def training_images(context: AdaptationContext, count: int) -> list[Tensor]:
    """Return `count` degraded training images [1, 3, h, w], the tasks of the run in turn."""
    tasks = context.tasks
    if not tasks:
        raise UserError("training images are those of a finished run; an authors' checkpoint has none")
    return [context.degraded(tasks[number % len(tasks)], [number // len(tasks)]) for number in range(count)]
