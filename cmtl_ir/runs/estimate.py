"""Estimate of the time and disk space of a plan, from a few timed steps."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from cmtl_ir.config.experiment import Strategy
from cmtl_ir.config.progressive import pixels_of
from cmtl_ir.runs.plan import Prepared
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.data import Stage
from cmtl_ir.strategy.families import KEYS
from cmtl_ir.strategy.parts import Part
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import apply_update
from cmtl_ir.training.shares import apportion, stage_rows

TIMED_STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """Cost of each run of a plan."""

    parameters: int
    seconds_per_step: float
    factors: dict[str, float]
    pixels: int
    """Pixels per timed step."""
    bytes_on_disk: float

    def seconds(self, run: Run) -> float:
        """Return the training seconds of a run, without evaluation."""
        own = run.identity["training"]
        share = pixels_of(own, run.identity["patch"]) / self.pixels
        return float(share * self.seconds_per_step * self.factors[run.label])


def estimate(prepared: Prepared) -> Estimate:
    """Time a few joint steps on the real data. Row gradients are assumed to cost 1.5 times as much per step."""
    experiment, seed = prepared.experiment, prepared.experiment.seeds[0]
    first = next(iter(experiment.strategies.values()))
    learner = Learner(experiment, first, prepared.tasks[seed], seed, prepared.device)
    size = sum(parameter.numel() for parameter in learner.model.parameters())
    stage = Stage("timing", {task: 1.0 / len(learner.tasks) for task in learner.tasks}, TIMED_STEPS)
    counts, _ = apportion(stage_rows(stage, []), experiment.training.batch, {})
    _joint_step(learner, counts)
    start = time.perf_counter()
    for _ in range(TIMED_STEPS):
        _joint_step(learner, counts)
    seconds = (time.perf_counter() - start) / TIMED_STEPS
    factors = {
        label: (1.5 if any(getattr(part, "needs", "losses") != "losses" for part in _parts(one)) else 1.0)
        * (1 + sum(proxy.share for proxy in one.curriculum.proxies(tuple(experiment.tasks))))
        for label, one in experiment.strategies.items()
    }
    kept = experiment.checkpoint.keep + 2  # checkpoints of weights and two moments, stage ends, final weights
    pixels = sum(counts) * learner.phase_after(0).patch ** 2
    return Estimate(size, seconds, factors, pixels, len(prepared.runs) * kept * 3 * 4.0 * size)


def _parts(strategy: Strategy) -> list[Part]:
    return [part for key in KEYS for part in strategy.parts_of(key)]


def _joint_step(learner: Learner, counts: list[int]) -> None:
    total = torch.zeros((), device=learner.device)
    for task, count in zip(learner.tasks, counts, strict=True):
        if count:
            batch = learner.batch(task, torch.arange(count))
            total = total + learner.sample_losses(learner.restore(batch), batch).mean()
    total.backward()
    apply_update(learner, learner.training.optimizer.lr)
