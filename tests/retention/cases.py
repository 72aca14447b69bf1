"""Every retention in a setting that a test can afford, and a learner without a loop for formulas."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Stage
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny

SMALL: dict[str, dict[str, Any]] = {
    "agem": {"capacity": 12},
    "agem-all": {"capacity": "all"},
    "claio": {"capacity": 13},
    "degradation_replay": {},
    "der": {"capacity": 12},
    "der-reservoir": {"capacity": 9, "policy": "reservoir"},
    "der_plus_plus": {"capacity": 12},
    "distill": {"capacity": 12},
    "distill-new": {"inputs": "new"},
    "ewc": {"crops": 6},
    "ewc-online": {"crops": 6, "mode": "online", "decay": 0.9},
    "freeze": {"patterns": ["encoders.*"]},
    "gem": {"capacity": 12},
    "l2": {},
    "lira": {"capacity": 12, "rank": 2},
    "mas": {"crops": 6},
    "pseudo_replay": {},
    "replay": {"capacity": 12},
    "replay-all": {"capacity": "all", "share": "uniform"},
    "replay-reservoir": {"capacity": 9, "policy": "reservoir"},
    "si": {},
}
"""Label -> fields; the part's name is what stands before a dash."""
PENALTIES = ("ewc", "ewc-online", "l2", "mas", "si")
ROWS = ("replay", "distill", "distill-new", "claio", "der", "degradation_replay", "pseudo_replay", "agem", "gem")


def part(label: str, **fields: Any) -> dict[str, Any]:
    """What a YAML file would say."""
    return {"name": label.partition("-")[0], **SMALL.get(label, {}), **fields}


def strategy(label: str, curriculum: Any = "sequential", **fields: Any) -> dict[str, Any]:
    """One task after the other under a retention."""
    return {"curriculum": curriculum, "retention": part(label, **fields)}


SHORT: dict[str, Any] = {"tasks": {"haze": None}, "training": {"steps": 4}}
"""Two stages of two steps."""


@cache
def sequential() -> Learner:
    """What every retention of weight 0 must equal."""
    return trained({"curriculum": "sequential"}, **SHORT)[0]


def trained(strategy: dict[str, Any], look_every: int = 0, **overrides: Any) -> tuple[Learner, tiny.Silent]:
    """A tiny run from start to end."""
    learner, watcher = tiny.learner(strategy, **overrides), tiny.Silent(look_every)
    train(learner, watcher)
    return learner, watcher


class Bare:
    """A learner without a loop: a model and the samples of each task, all of them given."""

    def __init__(self, model: nn.Module, samples: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        self.model, self.samples, self.tasks, self.seed, self.step = model, samples, tuple(samples), 0, 0

    def batch(self, task: str, ids: Tensor, images: str | None = None) -> Batch:
        degraded, clean = self.samples[task]
        return Batch(task, ids, degraded[ids], clean[ids])

    def restore(self, batch: Batch, network: nn.Module | None = None) -> Output:
        return Output.of((network or self.model)(batch.degraded))

    def sample_losses(self, output: Output, batch: Batch) -> Tensor:
        return (output.restored - batch.clean).abs().flatten(1).mean(1)


def stage(*tasks: str, **memory: list[int]) -> Stage:
    """One stage of ten steps."""
    rows = {row.replace("_of_", ":"): ids for row, ids in memory.items()}
    names = [*tasks, *rows]
    return Stage(names[0], {name: 1.0 / len(names) for name in names}, 10, rows)


class Affine(nn.Module):
    """a x + b: two parameters."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(b, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x + self.b
