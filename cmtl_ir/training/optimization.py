"""Optimizer, learning-rate schedule and averaged weights, which are the same for every strategy."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError, suggestion
from cmtl_ir.config.optimizer import OptimizerConfig
from cmtl_ir.strategy.data import Schedule

EXEMPTED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""Methods of optimizers that torch exempts from compilation."""


def make_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the fused optimizer of an experiment."""
    parameters = list(parameters)
    if config.name == "sgd":
        return _without_dynamo(torch.optim.SGD)(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )
    kind = _without_dynamo(torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam)
    return kind(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True)


@cache
def _without_dynamo(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Return the optimizer with methods that do not import torch.compile, which takes more than a second.

    In their first calls, torch's methods import it to exempt themselves from compilation, and nothing compiles them
    here. `step` is without gradients, as it is where `differentiable` is false.
    """
    plain = {name: inspect.unwrap(getattr(kind, name)) for name in (*EXEMPTED, "step")}
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(plain["step"])})


def learning_rate(base: float, schedule: Schedule, step: int, steps: int) -> float:
    """Return the rate of step `step` (from 0) of `steps`: linear warm-up, then `cycles` cosines to the floor."""
    if step < schedule.warmup:
        return base * (step + 1) / schedule.warmup
    if schedule.kind == "constant":
        return base
    length = (steps * schedule.stretch - schedule.warmup) / schedule.cycles
    phase = ((step - schedule.warmup) % length) / length
    return schedule.floor + (base - schedule.floor) * 0.5 * (1.0 + math.cos(math.pi * phase))


def group_by_rate(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], rates: Mapping[str, float]
) -> None:
    """Put the optimizer's parameters into one group per factor of the learning rate, kept as `factor`.

    `rates` maps shell patterns of names to factors; the first that matches counts, 1 where none does. States stay with
    their parameters. Raise ConfigError for a pattern that matches no name.
    """
    if not rates and len(optimizer.param_groups) == 1:
        return
    for pattern in rates:
        if not any(fnmatch(name, pattern) for name in parameters):
            raise ConfigError(f"rates: no parameter matches {pattern!r}; {suggestion(pattern, list(parameters))}")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    options = {key: value for key, value in optimizer.param_groups[0].items() if key not in ("params", "factor")}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        if id(parameter) in held:
            factor = next((factor for pattern, factor in rates.items() if fnmatch(name, pattern)), 1.0)
            groups.setdefault(factor, []).append(parameter)
    optimizer.param_groups[:] = [{**options, "params": own, "factor": factor} for factor, own in groups.items()]


@contextmanager
def frozen(model: nn.Module, patterns: Sequence[str]) -> Iterator[None]:
    """Let the parameters whose names match a shell pattern have no gradient meanwhile.

    The optimizer, made before, goes on to hold them, so that a resumed run has the same one. Raise ConfigError for a
    pattern that matches no name.
    """
    named = dict(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in named):
            raise ConfigError(f"frozen: no parameter matches {pattern!r}; {suggestion(pattern, list(named))}")
    held = [one for name, one in named.items() if one.requires_grad and any(fnmatch(name, p) for p in patterns)]
    try:
        for parameter in held:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def mean_of(weights: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of several state dicts; integers are taken from the last one."""
    last = weights[-1]
    return {
        name: torch.stack([one[name] for one in weights]).mean(0) if value.is_floating_point() else value
        for name, value in last.items()
    }


class AveragedWeights:
    """Exponential moving average of the weights, which starts again at each stage."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the current weights of the model by 1 - decay."""
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1.0 - self.decay)
            else:
                self.weights[name].copy_(value)


def optimizer_tree(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of the optimizer as a tree to save."""
    return optimizer.state_dict()


def load_optimizer(optimizer: torch.optim.Optimizer, tree: Mapping[str, Any]) -> None:
    """Load a saved state. Later steps do not change the tree."""
    optimizer.load_state_dict(copy.deepcopy(dict(tree)))
