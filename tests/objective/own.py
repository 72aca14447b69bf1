"""Objectives and a network of a user's own file, for the contract of auxiliary objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import PrivateAttr
from torch import Tensor, nn

from cmtl_ir.base import keyed
from cmtl_ir.strategy import Constants, Objective, Output
from cmtl_ir.strategy.data import Batch, Learner, StepContext
from cmtl_ir.strategy.objective import pooled


class Small(nn.Module):
    """Two convolutions, 223 parameters; the latent is what is between them."""

    couples_samples = False
    latent_module: ClassVar[str] = "first"

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        return x + self.last(torch.tanh(self.first(x)))

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the image, and features such as networks with losses of their own have."""
        h = torch.tanh(self.first(x))
        shares = h.mean((2, 3)).softmax(1)[:, None]  # [B, 1, 4]
        y = x + self.last(h)
        sizes = {"images": torch.stack([x, y], 1), "width": h.mean((2, 3))[:, :2], "widths": x.new_ones(len(x), 2)}
        experts = {"importance": shares, "load": shares.square(), "classes": shares}
        experts["indicators"] = h.abs().mean((1, 2, 3))
        return y, {**experts, **sizes, **self.estimates(x), "side1": F.avg_pool2d(y, 2)}

    def estimates(self, x: Tensor) -> dict[str, Tensor]:
        """Return a map of the degradation's type, and the quality of each image."""
        h = torch.tanh(self.first(x))
        return {"type": h, "quality": 50 * h.mean((1, 2, 3))}


class Prompted(Small):
    """The small network with a shift of the latent per task."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.shift = nn.Parameter(torch.linspace(-0.5, 0.5, 12).view(3, 4, 1, 1))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        assert task is not None
        return x + self.last(torch.tanh(self.first(x) + self.shift[task]))


class Bank(Objective):
    """A head on the latent is pushed away from keys of earlier steps of the row, which a bank keeps."""

    needs: ClassVar[frozenset[str]] = frozenset({"output", "latent"})

    weight: float = 0.5
    """w: factor of this objective next to the base objective."""
    size: int = 5
    """Keys that are kept per row."""

    _fresh: dict[str, Tensor] = PrivateAttr(default_factory=dict)

    def head(self, channels: int, tasks: Sequence[str]) -> nn.Module:
        return nn.Sequential(Pooled(), nn.Linear(channels, 3))

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> dict[str, Constants]:
        assert context.gathered is not None
        found, fresh = {}, {}
        for row, batch in batches.items():
            draws = keyed.normal(keyed.keys_of(context.key(self.label, row), batch.ids.cpu()), (3,))
            keys = batch.degraded.mean((2, 3)) + 0.1 * draws.to(batch.degraded)
            everywhere, ids = context.gathered(row, keys), context.gathered(row, batch.ids.double())
            fresh[row] = everywhere[ids.argsort(stable=True)]
            bank = self.state.get("bank", {}).get(row, keys.new_zeros(0, 3))
            found[row] = Constants(row, {"own": keys}, {"bank": bank})
        self._fresh = fresh
        return found

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        query, bank = output.features[self.label].float(), constants.shared["bank"]
        logits = torch.cat([(query * constants.per_sample["own"]).sum(1, keepdim=True), query @ bank.T], 1)
        return torch.logsumexp(logits, 1) - logits[:, 0]  # 0 as long as the bank is empty

    def after_step(self, learner: Learner) -> None:
        bank = self.state.setdefault("bank", {})
        for row, keys in self._fresh.items():
            bank[row] = torch.cat([bank.get(row, keys[:0]), keys])[-self.size :]


class Pooled(nn.Module):
    """[B, C, h, w] or [B, N, C] -> [B, C]."""

    def forward(self, latent: Tensor) -> Tensor:
        return pooled(latent)


class Latent(Objective):
    """The mean square of the latent itself."""

    needs: ClassVar[frozenset[str]] = frozenset({"latent"})

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        return output.features["latent"].float().square().flatten(1).mean(1)


class Others(Objective):
    """Away from the same images under another task's degradation."""

    needs: ClassVar[frozenset[str]] = frozenset({"output", "others"})

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> dict[str, Constants]:
        found = {}
        for row, batch in batches.items():
            other = next(task for task in learner.tasks if task != batch.task)
            negative = learner.batch(other, batch.ids, images=batch.task).degraded
            found[row] = Constants(row, {"negative": negative})
        return found

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        restored = output.restored.float()
        towards = (restored - batch.clean).abs().mean((1, 2, 3))
        return towards / ((restored - constants.per_sample["negative"]).abs().mean((1, 2, 3)) + 1e-3)


class Coupled(Objective):
    """A head that couples the samples of a batch."""

    needs: ClassVar[frozenset[str]] = frozenset({"latent"})

    def head(self, channels: int, tasks: Sequence[str]) -> nn.Module:
        return nn.BatchNorm2d(channels)


class Greedy(Objective):
    """Asks for what no engine has."""

    needs: ClassVar[frozenset[str]] = frozenset({"output", "latents"})


class Noting(Objective):
    """An L1 term that notes when it is called."""

    calls: ClassVar[list[Any]] = []

    def prepare(self, batches: Mapping[str, Batch], learner: Learner, context: StepContext) -> dict[str, Constants]:
        self.calls.append(("prepare", learner.step, sorted(batches)))
        return {}

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        self.calls.append(("losses", constants.row, len(batch.ids)))
        return F.l1_loss(output.restored.float(), batch.clean, reduction="none").mean((1, 2, 3))

    def after_step(self, learner: Learner) -> None:
        self.calls.append(("after_step", learner.step))
