"""Joint training with the shares that a law, fitted on short runs, predicts to be best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field

from cmtl_ir.strategy.data import History, Proxy, Stage
from cmtl_ir.strategy.parts import Cost, Curriculum
from cmtl_ir.strategy.registry import register

from ._mixing import best_mixture, fitted, left_out, probed
from ._stages import uniform

log = logging.getLogger("cmtl_ir")


@register
class MixingLaw(Curriculum):
    """Data mixing laws (Ye et al., arXiv 2403.16952): L_k(r) = c_k + b_k exp(sum_j t_kj r_j) for shares r of the tasks.

    Before the run, 2 K + 1 short runs on fixed mixtures and one on each task alone are trained, with the other parts of
    the strategy, and found again by a repeated command. The law of each task is fitted to the former by least squares.
    The run trains on the mixture of the smallest sum of L_k / l_k, where l_k is the loss of the short run on task k
    alone. Mixtures outside the hull of those that were tried are not considered. The log states, per task, the mean
    error of the law on a mixture that was left out of its fit: with 2 K + 1 points for K + 1 numbers, it decides
    whether the law is worth anything. With `proxy: 0` it is joint training.

    Losses are base objectives on training samples that no run draws. The paper mixes text for language models; the
    mixtures, their number and the references l_k are [ours]. FoundIR-v2 (CVPR 2026) uses such a law for restoration,
    and publishes no constants.
    """

    cost: ClassVar[Cost] = Cost(memory="none: 3 K + 1 runs of `proxy` of the steps each come before the run")

    proxy: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in each of the 3 K + 1 short runs. They are not part of the budget. 0: none."""
    reach: float = Field(0.8, gt=0, lt=1)
    """How far the mixtures that are tried reach from equal shares towards a task alone."""

    def proxies(self, tasks: Sequence[str]) -> list[Proxy]:
        """Return the 2 K + 1 mixtures, then each task alone; none for a single task."""
        if self.proxy == 0 or len(tasks) < 2:
            return []
        mixed = [dict(zip(tasks, row, strict=True)) for row in probed(len(tasks), self.reach).tolist()]
        return [Proxy(mixture, self.proxy) for mixture in [*mixed, *({task: 1.0} for task in tasks)]]

    def next_stage(self, history: History) -> Stage | None:
        """Return one stage with the whole budget and the chosen mixture."""
        if history.stages:
            return None
        if not self.proxies(history.all_tasks):
            return Stage("joint", uniform(history.all_tasks), history.steps)
        return Stage("joint", self._chosen(history), history.steps)

    def _chosen(self, history: History) -> dict[str, float]:
        tasks, losses = history.all_tasks, history.learner.proxy_losses().double().clamp(min=1e-12)
        mixtures, count = probed(len(tasks), self.reach), 2 * len(tasks) + 1
        laws = [fitted(mixtures, losses[:count, place]) for place in range(len(tasks))]
        references = losses[count:].diagonal().tolist()
        found = best_mixture(laws, references, self.reach)
        both = torch.stack([found, mixtures[0]])
        sums = torch.stack([law(both) / one for law, one in zip(laws, references, strict=True)]).mean(0).tolist()
        log.info("mixing_law: predicted mean loss of short runs, one on a task alone is 1: %.4f; equal: %.4f", *sums)
        for place, task in enumerate(tasks):
            error = left_out(mixtures, losses[:count, place])
            log.info("mixing_law, %s: share %.3f; error on a mixture left out %.1f %%", task, found[place], 100 * error)
        if float((mixtures.max() - found).min()) < 1e-6 or float((found - mixtures.min()).min()) < 1e-6:
            log.info(
                "mixing_law: the mixture lies on the edge of those that were tried; a larger `reach` looks further"
            )
        return dict(zip(tasks, found.tolist(), strict=True))
