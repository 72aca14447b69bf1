"""Contrast of degradations in the latent of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Batch, Learner, Stage, StepContext
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.copies import follow, frozen_copy
from ._classes import Pooled
from ._contrast import other_ids

FEATURES = 256


@register
class DegradationContrast(Objective):
    """Momentum contrast of degradations (MoCo, He et al., CVPR 2020; AirNet, Li et al., CVPR 2022) on any latent.

    -log(e^(q k / t) / (e^(q k / t) + sum_n e^(q n / t))) of unit vectors: q of a sample, k of another crop of its image
    under the same degradation by a moving average of the network, and keys n of earlier steps. Without earlier keys it
    is 0, and so is its gradient.

    `encoder: own` is AirNet's form: the network's own encoder, key encoder and queue, and `negatives: all`.

    Departures: keys enter the bank at the end of a step, by task and in the order of their ids. The authors' negatives
    include keys of the sample's own degradation, which are false negatives; `negatives: others` leaves them out.
    """

    cost: ClassVar[Cost] = Cost(
        backward_passes="0",
        forward_passes="1 of the key network",
        memory="2 P, and `bank` keys of 256 numbers per task",
    )

    weight: float = Field(0.1, ge=0)
    """w: factor of this objective next to the base objective."""
    encoder: Literal["latent", "own"] = "latent"
    """latent: the network, with two linear layers on its latent; own: the network's own encoder of degradations, key
    encoder and queue (airnet)."""
    positives: Literal["view", "task"] = "view"
    """view: another crop of the image under the same parameters of the degradation; task: another sample of the task,
    so that severity does not separate samples."""
    negatives: Literal["others", "all"] = "others"
    """others: keys of other tasks; all: also keys of the sample's own task, as published."""
    bank: int = Field(1024, ge=1)
    """Keys that are kept per task. With `encoder: own` the network's queue decides."""
    momentum: float = Field(0.999, ge=0, lt=1)
    """Share of its weights that the key network keeps in each step. Below 5000 steps, 0.99 lets it follow."""
    temperature: float = Field(0.07, gt=0)
    """t: a small one weighs the nearest negatives most."""

    _key_network: nn.Module | None = PrivateAttr(default=None)
    _fresh: dict[str, Tensor] = PrivateAttr(default_factory=dict)
    _tasks: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _own_has_one_queue(self) -> Self:
        if self.encoder == "own" and self.negatives == "others":
            raise ValueError("the queue of encoder: own does not know tasks; set negatives: all, or encoder: latent")
        return self

    @property
    def needs(self) -> Any:  # type: ignore[override]
        """The network's own contrast, or its latent; the second view of a batch with `positives: view`."""
        read = {"own_features"} if self.encoder == "own" else {"latent", "snapshots"}
        return frozenset(read | ({"second_view"} if self.positives == "view" else set()))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._key_network = None

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Raise ConfigError if the backbone has no contrast of its own, but `encoder: own` asks for it."""
        if self.encoder == "own" and not hasattr(learner.model, "contrast"):
            raise ConfigError(f"auxiliary {self.label}: the backbone has no contrast of its own; set encoder: latent")

    # ------------------------------------------------------------------------------------------------------ queries

    def head(self, channels: int, tasks: Sequence[str]) -> nn.Module | None:
        if self.encoder == "own":
            return None
        return nn.Sequential(Pooled(), nn.Linear(channels, channels), nn.LeakyReLU(0.1), nn.Linear(channels, FEATURES))

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        query = output.features["contrast" if self.encoder == "own" else self.label].float()
        keys, bank = constants.per_sample["keys"], constants.shared["bank"]
        return info_nce(F.normalize(query, dim=1), keys, bank, self.temperature)

    # --------------------------------------------------------------------------------------------------------- keys

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> Mapping[str, Constants]:
        assert context.gathered is not None
        keys = self._keys(batches, learner, context)
        found = {}
        for row, batch in batches.items():
            everywhere, ids = context.gathered(row, keys[row]), context.gathered(row, batch.ids.to(keys[row].device))
            self._fresh[row] = everywhere[ids.argsort(stable=True)]
            self._tasks[row] = batch.task
            found[row] = Constants(row, {"keys": keys[row]}, {"bank": self._bank(batch.task, learner)})
        return found

    def _keys(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> dict[str, Tensor]:
        """Return the unit keys [n, D] of the positives of each row."""
        views = {row: self._positives(batch, learner, context, row) for row, batch in batches.items() if len(batch.ids)}
        nothing = {row: batch.degraded.new_zeros(0, FEATURES) for row, batch in batches.items() if row not in views}
        if self.encoder == "own":
            return {**nothing, **_own_keys(views, learner)}
        if self._key_network is None:
            self._key_network = frozen_copy(learner.model, self.state.setdefault("keys", {}))
            self._key_network.returns_features = True
        outputs = {row: learner.restore(view, self._key_network) for row, view in views.items()}
        return {
            **nothing,
            **{row: F.normalize(one.features[self.label].float(), dim=1) for row, one in outputs.items()},
        }

    def _positives(self, batch: Batch, learner: Learner, context: StepContext, row: str) -> Batch:
        if self.positives == "view":
            return learner.second_view(batch)
        return learner.batch(batch.task, other_ids(batch.ids, context.key(self.label, row)))

    # --------------------------------------------------------------------------------------------------------- bank

    def _bank(self, task: str, learner: Learner) -> Tensor:
        """Return the negatives [N, D] of a task."""
        if self.encoder == "own":
            network: Any = learner.model
            return network.contrast.queue.T.clone()
        bank = self.state.get("bank", {})
        kept = [bank[one] for one in sorted(bank) if one != task or self.negatives == "all"]
        first = next(learner.model.parameters())
        return torch.cat([first.new_zeros(0, FEATURES, dtype=torch.float32), *kept])

    def after_step(self, learner: Learner) -> None:
        fresh, self._fresh = self._fresh, {}
        if self.encoder == "own":
            network: Any = learner.model
            network.contrast.follow(self.momentum)
            network.contrast.enqueue(torch.cat(list(fresh.values())))
            return
        assert self._key_network is not None
        follow(self._key_network, learner.model, self.momentum)
        bank = self.state.setdefault("bank", {})
        for row, keys in fresh.items():
            task = self._tasks[row]
            bank[task] = torch.cat([bank.get(task, keys[:0]), keys])[-self.bank :].clone()


def info_nce(queries: Tensor, keys: Tensor, bank: Tensor, temperature: float) -> Tensor:
    """Return the loss [B] of queries [B, D] with positives [B, D] and negatives [N, D]; exactly 0 without negatives."""
    logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ bank.T], 1) / temperature
    return torch.logsumexp(logits, 1) - logits[:, 0]


def _own_keys(views: Mapping[str, Batch], learner: Learner) -> dict[str, Tensor]:
    """Return the keys of one pass of the network's own key encoder over all rows, as the authors' batch."""
    if not views:
        return {}
    network: Any = learner.model
    images = torch.cat([view.degraded for view in views.values()]).contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, enabled=False):
        _, keys = network.contrast.encoder_k(images)
    return dict(zip(views, keys.split([len(view.ids) for view in views.values()]), strict=True))
