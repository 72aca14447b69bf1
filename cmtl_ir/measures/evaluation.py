"""Scoring whole test images: deterministic degradations, every metric per image, tiles for large images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cmtl_ir.measures.metric import DEFAULT_NAMES, Metric, metrics_from
from cmtl_ir.measures.protocol import Protocol, find_protocol
from cmtl_ir.measures.scale import Scale
from cmtl_ir.measures.tiling import Restore, restore_tiled
from cmtl_ir.tasks.task import Task, TestSample

KEPT_PIXELS = 30_000_000
"""Maximum number of pixels of test images kept in memory, so that they are not degraded again at each evaluation."""


def evaluate_pair(
    restored: Tensor, clean: Tensor, protocol: Protocol | str, metrics: Sequence[Metric] = ()
) -> dict[str, Tensor]:
    """Return metric name -> scores [B] of two batches [B, 3, H, W] in [0, 1]. Empty `metrics` mean PSNR and SSIM."""
    scored = metrics or metrics_from(DEFAULT_NAMES)
    return {metric.scale.name: metric(restored, clean, protocol) for metric in scored}


class Evaluator:
    """Scores a backbone on the test (or validation) images of every task under one protocol.

    `metrics` are names as `evaluation.metrics` lists them. `known` are the tasks that the backbone numbers, in its
    order. `None` means `tasks`. `given` is the number for other tasks. Raise UserError if a metric cannot be loaded.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        protocol: str,
        tile: int,
        device: torch.device,
        split: Literal["test", "val"] = "test",
        metrics: Sequence[str] = DEFAULT_NAMES,
        known: Sequence[str] | None = None,
        given: int = 0,
    ) -> None:
        self.tasks, self.protocol, self.tile, self.device, self.split = tasks, protocol, tile, device, split
        self.names, self.metrics = tuple(metrics), metrics_from(metrics)
        self.known, self.given = tuple(tasks if known is None else known), given
        for metric in self.metrics:
            metric.prepare(device)
        self._kept: dict[str, list[tuple[TestSample, dict[str, float]]]] = {}
        self._pixels = 0

    def validation(self) -> Evaluator | None:
        """Return an evaluator of the validation images, or `None` if a task has none."""
        if any(task.splits.val is None for task in self.tasks.values()):
            return None
        return Evaluator(self.tasks, self.protocol, self.tile, self.device, "val", self.names, self.known, self.given)

    def with_tasks(self, tasks: Mapping[str, Task]) -> Evaluator:
        """Return an evaluator of the test images of other tasks with the same metrics, which are not loaded again."""
        other = copy(self)
        other.tasks, other._kept, other._pixels = tasks, {}, 0
        return other

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Name, unit and direction of each metric."""
        return tuple(metric.scale for metric in self.metrics)

    def scores(self, model: nn.Module, network: Restore | None = None) -> list[dict[str, Any]]:
        """Return one row per image: task, variant, image, each metric, and its METRIC_input of the degraded image."""
        training = model.training
        model.eval()
        rows = []
        for name, sample, identity in self.samples():
            restored = self.restored(model, name, sample, network)
            measured = {key: float(value) for key, value in self.measure(restored, sample.clean).items()}
            rows.append({"task": name, "variant": sample.variant, "image": sample.image, **measured, **identity})
        model.train(training)
        return rows

    def restored(self, model: nn.Module, task: str, sample: TestSample, network: Restore | None = None) -> Tensor:
        """Return the model's output for a test sample, [1, 3, H, W] in [0, 1]."""
        number = self.known.index(task) if task in self.known else self.given
        numbers = torch.full((1,), number, device=self.device)
        degraded = sample.degraded.to(self.device, memory_format=torch.channels_last)
        return restore_tiled(network or model, degraded, numbers, self.tile)

    def measure(self, restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """Return metric name -> score of a restored image [1, 3, H, W] against the clean one."""
        return evaluate_pair(restored, clean.to(restored.device), self.protocol, self.metrics)

    def samples(self) -> Iterator[tuple[str, TestSample, dict[str, float]]]:
        """Yield (task, test sample, scores of the degraded image), in the order of tasks, variants and images.

        Images are cropped as the protocol says before any network sees them. If they were cropped afterwards, the
        scored pixels would have been restored with more of the image in view than in the authors' evaluation.
        """
        for name, task in self.tasks.items():
            if name in self._kept:
                yield from ((name, sample, identity) for sample, identity in self._kept[name])
                continue
            kept, whole = [], True
            for sample in map(self._cut, task.test_samples() if self.split == "test" else task.val_samples()):
                identity = {
                    f"{key}_input": float(value)
                    for key, value in self.measure(sample.degraded.to(self.device), sample.clean).items()
                }
                self._pixels += sample.clean[0, 0].numel()
                whole = whole and self._pixels <= KEPT_PIXELS
                if whole:
                    kept.append((sample, identity))
                yield name, sample, identity
            if whole:
                self._kept[name] = kept

    def _cut(self, sample: TestSample) -> TestSample:
        crop = find_protocol(self.protocol).crop
        return replace(sample, degraded=crop(sample.degraded).contiguous(), clean=crop(sample.clean).contiguous())
