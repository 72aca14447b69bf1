"""A step of some rows on a network, and what autograd gives for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir.gradients.rows import Engine, RowGradients
from cmtl_ir.strategy.output import Output, output_of

from ..backbones.cases import image
from .networks import NETWORKS

ENGINES: tuple[Engine, ...] = ("stream", "grouped")
both_engines = pytest.mark.parametrize("engine", ENGINES)
every_network = pytest.mark.parametrize("name", NETWORKS)


class Step:
    """A network, a batch of rows, and a loss that is not a sum over samples."""

    def __init__(self, model: nn.Module, sizes: Sequence[int], side: int = 8, dtype: torch.dtype = torch.float64):
        self.model, self.sizes = model, list(sizes)
        self.x = image(3, side, side, batch=sum(sizes)).to(dtype)
        self.tasks = torch.arange(sum(sizes)) % 7
        self.passes = 0

    def forward(self, start: int, stop: int) -> Output:
        self.passes += 1
        return output_of(self.model, self.model(self.x[start:stop], self.tasks[start:stop]))

    def loss(self, output: Output, row: int) -> Tensor:
        return torch.stack([((part - 0.3 * row) ** 2).mean().sqrt() for part in output.tensors()]).sum()

    def rows(self, engine: Engine, **fields: Any) -> RowGradients:
        """The engine after one call on this step."""
        made = RowGradients(self.model, len(self.sizes), engine, **fields)
        made(self.forward, self.sizes, self.loss)
        return made

    def losses(self) -> list[Tensor]:
        """Of one joint forward pass, with their graph."""
        output = self.forward(0, sum(self.sizes))
        return [self.loss(part, row) for row, part in enumerate(output.split(self.sizes))]

    def reference(self) -> Tensor:
        """[K, P] by torch.autograd.grad, one backward pass a row through one graph."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        rows = []
        for loss in self.losses():
            pulled = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            rows.append([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, pulled, strict=True)])
        return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])


def built(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network of one idea, with the same weights at each call."""
    torch.manual_seed(0)
    return NETWORKS[name]().to(dtype)


def read(engine: RowGradients) -> Tensor:
    """[K, P] in the order of `parameters()`, whatever their memory layout."""
    return torch.stack([torch.cat([view.flatten() for view in row]) for row in engine.row_views])


def assert_same_rows(found: Tensor, expected: Tensor, share: float = 1e-10) -> None:
    """Equal up to a share of each row's largest entry."""
    assert found.shape == expected.shape
    error = (found - expected).abs().amax(1)
    assert bool((error <= share * expected.abs().amax(1)).all()), error
