"""The optimizers of experiments are torch's, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cmtl_ir.config.experiment import OptimizerConfig
from cmtl_ir.training.optimization import load_optimizer, make_optimizer, optimizer_tree

PLAIN: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"betas": (0.8, 0.95)}),
    "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.95)}),
    "sgd": (torch.optim.SGD, {"momentum": 0.7}),
}


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    image = torch.linspace(-1.0, 1.0, 24).reshape(3, 8)
    for _ in range(steps):
        optimizer.zero_grad()
        model(image).square().sum().backward()
        optimizer.step()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 5), nn.GELU(), nn.Linear(5, 2))


@pytest.mark.parametrize("name", PLAIN)
def test_a_resumed_optimizer_steps_as_that_of_torch(name: str) -> None:
    kind, fields = PLAIN[name]
    wanted, model = network(), network()
    trained(wanted, kind(wanted.parameters(), lr=0.01, weight_decay=0.1, fused=True, **fields), 6)
    config = OptimizerConfig.model_validate({"name": name, "lr": 0.01, "weight_decay": 0.1, **fields})
    first = make_optimizer(config, model.parameters())
    trained(model, first, 3)
    resumed = make_optimizer(config, model.parameters())
    load_optimizer(resumed, optimizer_tree(first))
    trained(model, resumed, 3)
    assert isinstance(resumed, kind)
    assert all(map(torch.equal, model.parameters(), wanted.parameters()))
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in model.parameters())
