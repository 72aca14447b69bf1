"""What an adapter is given for one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cmtl_ir.adaptation.subject import Subject
from cmtl_ir.measures.tiling import restore_tiled
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.strategy.objective import sample_losses
from cmtl_ir.strategy.output import Output, final_output


@dataclass
class ImageContext:
    """The context of one image, as `AdaptationContext` describes it. Everything is computed in float32."""

    subject: Subject
    image: str
    task: str | None
    number: int
    """Number of the image's task that the network is given, as it is without adaptation."""
    notes: dict[str, None] = field(default_factory=dict)
    """Texts for the user, in the order in which they were first told."""
    steps: int = 0

    @property
    def seed(self) -> int:
        return self.subject.origin.seed

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.subject.origin.tasks

    @property
    def degradations(self) -> Mapping[str, Degradation | None]:
        return self.subject.origin.degradations

    def restore(self, network: nn.Module, degraded: Tensor, task: str | None = None) -> Tensor:
        used, number = (network, self.number) if task is None else self.subject.as_task(network, task)
        image = degraded.to(self.subject.device, memory_format=torch.channels_last)
        return restore_tiled(used, image, torch.full((1,), number, device=self.subject.device), self.subject.tile)

    def forward(self, network: nn.Module, degraded: Tensor) -> Tensor:
        numbers = torch.full((len(degraded),), self.number, device=self.subject.device)
        if torch.is_grad_enabled() and not degraded.requires_grad:
            # PyTorch's backward of GroupNorm in channels_last fails on CPUs if the layer's input has no gradient, as
            # that of the first layer whose weights move.
            degraded = degraded.detach().requires_grad_(True)
        return final_output(network, network(degraded, numbers)).float()

    def loss(self, restored: Tensor, target: Tensor) -> Tensor:
        ids = torch.arange(len(target), device=target.device)
        batch = Batch("", ids, target, target)
        return sample_losses(self.subject.origin.objective, Output.of(restored), batch).mean()

    def degraded(self, task: str, ids: Sequence[int]) -> Tensor:
        return self.subject.origin.degraded(task, ids)

    def classify(self, network: nn.Module, degraded: Tensor) -> Mapping[str, float] | None:
        return self.subject.classify(network, degraded, self.number)

    def finished(self, run: str) -> nn.Module:
        return self.subject.origin.finished(run)

    def stepped(self) -> None:
        self.steps += 1

    def note(self, text: str) -> None:
        self.notes[text] = None
