"""The interface of a metric, which returns one number per image pair. A custom metric is one class in one file.

    @register
    class Mae(Metric):
        '''Mean absolute error in levels of 255.'''

        scale = Scale("mae", "levels", higher_is_better=False, digits=2)

        def score(self, restored: Tensor, clean: Tensor, protocol: Protocol) -> Tensor:
            return (restored - clean).abs().flatten(1).mean(1)

`evaluation.metrics: [psnr, ssim, my_metric.py:Mae]` uses it. Metrics are not part of a run's identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.problems import Problem
from cmtl_ir.measures.protocol import Protocol, comparable, find_protocol
from cmtl_ir.measures.scale import DEFAULT, PSNR, Scale
from cmtl_ir.strategy.making import part_from
from cmtl_ir.strategy.parts import Part

__all__ = ["DEFAULT_NAMES", "Metric", "Protocol", "Scale", "metrics_from", "smallest_side"]

DEFAULT_NAMES = tuple(scale.name for scale in DEFAULT)


class Metric(Part):
    """Compares restored images with clean ones."""

    family: ClassVar[str] = "metric"
    scale: ClassVar[Scale]
    """Name, unit, direction and digits."""

    def prepare(self, device: torch.device) -> None:
        """Load what the metric needs before training starts. Raise UserError if it cannot be loaded."""

    def smallest(self, protocol: Protocol) -> int:
        """Return the shortest side in pixels that can be scored after the protocol's crops."""
        return 1

    def score(self, restored: Tensor, clean: Tensor, protocol: Protocol) -> Tensor:
        """Return the score per image, [B], of images [B, C, H, W] as the protocol compares them.

        Both are on the scale 0 .. 255 in float64 (float32 on MPS), quantised, cropped and in the protocol's colours:
        C is 3 for RGB and 1 for luma.
        """
        raise TypeError(f"{type(self).__name__} does not say how images are scored")

    @torch.no_grad()
    def __call__(self, restored: Tensor, clean: Tensor, protocol: Protocol | str) -> Tensor:
        """Return the scores [B] of images [B, 3, H, W] in [0, 1]. Raise ValueError for images that do not match."""
        protocol = find_protocol(protocol)
        return self.score(*comparable(restored, clean, protocol, self.smallest(protocol)), protocol)


def smallest_side(protocol: Protocol | str, names: Iterable[str]) -> int:
    """Return the shortest side in pixels of an image that all these metrics can score under a protocol."""
    protocol = find_protocol(protocol)
    left = max(metric.smallest(protocol) for metric in metrics_from(names))  # after the protocol's crops
    return -(-(left + 2 * protocol.border) // protocol.multiple) * protocol.multiple


def metrics_from(names: Iterable[str]) -> tuple[Metric, ...]:
    """Return the metrics of these names (`psnr`, `file.py:Class`). Raise UserError that lists every mistake.

    PSNR must be among them, because it ranks strategies and heads every table. Two metrics must not share a name.
    """
    problems: list[Problem] = []
    made = [part_from("metric", name, f"evaluation.metrics[{place}]", problems) for place, name in enumerate(names)]
    metrics = tuple(metric for metric in made if isinstance(metric, Metric))
    for metric in metrics:
        if not isinstance(getattr(metric, "scale", None), Scale):
            problems.append(Problem("evaluation.metrics", f"{metric.called} has no `scale = Scale(name, unit, ...)`"))
    found = [metric.scale.name for metric in metrics if not problems]
    if not problems and PSNR.name not in found:
        problems.append(Problem("evaluation.metrics", "psnr must be listed: it ranks strategies and heads every table"))
    if len(set(found)) < len(found):
        problems.append(Problem("evaluation.metrics", f"two metrics have one name: {', '.join(found)}"))
    if problems:
        raise UserError("\n".join(str(problem) for problem in problems))
    return metrics
