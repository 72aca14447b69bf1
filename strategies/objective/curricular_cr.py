"""Contrast whose negatives are weighed by how hard they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ._contrast import EPSILON
from ._snapshots import SnapshotNegatives, answers


@register
class CurricularCR(SnapshotNegatives):
    """Curricular contrastive regularisation (C2PNet, Zheng et al., CVPR 2023).

    sum_l w_l d(f, y) / (v_0 d(f, x) + sum_j v_j d(f, n_j)). A negative n_j, the output of another network, is easy if
    the network in training has the higher PSNR. Then v_j is 1 + `difficulty`, otherwise 1 - `difficulty`. v_0 is the
    number of negatives, and all v are divided by their sum.

    Departures: negatives are outputs of finished runs or of earlier copies of the network. The PSNRs are measured per
    task on keyed training samples, where the authors measure on one batch of the test set and hard-code those of the
    negatives. They are kept when a run is resumed. The authors' features are those of `vgg19`.
    """

    cost: ClassVar[Cost] = Cost(backward_passes="0", forward_passes="1 per negative", memory="P per negative")

    weight: float = Field(0.2, ge=0)
    """w: factor of this objective next to the base objective."""
    negatives_of: tuple[str, ...] = ()
    """Finished runs whose outputs are the negatives: hashes, or COMPARISON/LABEL/SEED; empty: copies of the network,
    see `renew`."""
    difficulty: float = Field(0.25, ge=0, lt=1)
    """By how much the weight of a negative differs from 1."""
    every: int = Field(100, ge=1)
    """Steps after which the PSNRs are measured again."""
    probes: int = Field(24, ge=1)
    """Training samples per task on which they are measured."""

    _runs: list[nn.Module] = PrivateAttr(default_factory=list)

    @property
    def source(self) -> str:
        return "runs" if self.negatives_of else super().source

    def named_runs(self) -> Sequence[str]:
        return self.negatives_of

    def networks(self, learner: Learner) -> Sequence[nn.Module]:
        if not self.negatives_of:
            return super().networks(learner)
        if not self._runs:
            self._runs = [learner.finished_run(name) for name in self.negatives_of]
        return self._runs

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        for batch in batches.values():  # also on a rank that holds no sample of the row
            self._psnrs(batch.task, self.networks(learner), learner)
        return super().prepare(batches, learner, context)

    def negatives(self, batch: Batch, learner: Learner, context: StepContext, row: str) -> Mapping[str, Tensor]:
        networks = self.networks(learner)
        images = answers(networks, batch, learner)
        model, own = self._psnrs(batch.task, networks, learner)
        weights = self.weights_of(model, own.expand(len(images), -1).to(images))
        return {"negatives": images, "weights": weights}

    def weights_of(self, model: float, negatives: Tensor) -> Tensor:
        """Return v_0, v_1 .. v_J [B, 1 + J] for the PSNRs of the network and of J negatives [B, J]."""
        hard = torch.where(model > negatives, 1 + self.difficulty, 1 - self.difficulty)
        weights = torch.cat([torch.full_like(hard[:, :1], hard.shape[1]), hard], 1)
        return weights / weights.sum(1, keepdim=True)

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        restored = self.maps(output.restored, batch.task)
        images = torch.cat([batch.degraded[:, None], constants.per_sample["negatives"]], 1)
        away = self.to_all(restored, images, batch.task)  # [B, 1 + J, L]
        weighed = (constants.per_sample["weights"][:, :, None] * away).sum(1)
        return self.space.total(self.numerator(restored, batch) / self.denominator(weighed))

    def denominator(self, weighed: Tensor) -> Tensor:
        """Return the denominators for the weighed sums of the distances from the negatives."""
        return weighed + EPSILON

    # ------------------------------------------------------------------------------------------- how hard they are

    def _psnrs(self, task: str, networks: Sequence[nn.Module], learner: Learner) -> tuple[float, Tensor]:
        """Return the PSNR of the network in training and those of the negatives [J], at most `every` steps old."""
        known = self.state.setdefault("psnr", {}).get(task)
        if known is None or learner.step >= known["step"] + self.every:
            key = keyed.name_key(learner.seed, "probes", task)
            ids = keyed.integers(keyed.keys_of(key, torch.arange(self.probes)), 0, 2**31)
            batch = learner.batch(task, ids)
            training = learner.model.training
            learner.model.eval()
            own = float(psnr(learner.restore(batch).restored, batch.clean).mean())
            learner.model.train(training)
            found = [float(psnr(image, batch.clean).mean()) for image in answers(networks, batch, learner).unbind(1)]
            known = self.state["psnr"][task] = {"step": learner.step, "model": own, "negatives": found}
        return known["model"], torch.tensor(known["negatives"])


def psnr(restored: Tensor, clean: Tensor) -> Tensor:
    """Return the PSNR of each image in dB, [B], at most 100."""
    error = (restored.float().clamp(0, 1) - clean).square().mean((1, 2, 3))
    return -10 * error.clamp_min(1e-10).log10()
