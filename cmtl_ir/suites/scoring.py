"""Scores of the lines of a suite: one row per test image and answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.suites.line import Line
from cmtl_ir.suites.mixed import Noisy
from cmtl_ir.tasks.config import DataConfig
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task, TestSample

SMALLEST_PATCH = 8
Answer = Callable[[Tensor, Line], Tensor | None]
"""(degraded [1, 3, H, W], its line) -> restored [1, 3, H, W] in [0, 1]. `None`: there is no answer to this line."""


def score(
    lines: Iterable[Line], answers: Mapping[str, Answer], evaluator: Evaluator, data: DataConfig, seed: int,
    smallest: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return one row per line, test image and answer, with every metric and its METRIC_input of the degraded image.

    `evaluator` measures; its own tasks play no role. `smallest` is the shortest side of an image in pixels that its
    metrics can score.
    """
    rows = []
    for line in lines:
        task = opened(line, data, seed, evaluator.device, smallest)
        several = line.config.degradation is not None and len(line.config.degradation.variants()) > 1
        for _, sample, identity in evaluator.with_tasks({line.task: task}).samples():  # type: ignore[dict-item]
            for name, answer in answers.items():
                restored = answer(sample.degraded.to(evaluator.device), line)
                if restored is not None:
                    measured = {key: float(value) for key, value in evaluator.measure(restored, sample.clean).items()}
                    rows.append({**_described(line, sample, several), "answer": name, **measured, **identity})
    return rows


def opened(line: Line, data: DataConfig, seed: int, device: torch.device, smallest: int) -> Task | Noisy:
    """Return the task of a line. Its training images are not used, so that they may be of any size."""
    small = data.model_copy(update={"patch": SMALLEST_PATCH})
    task = build_tasks({line.task: line.config}, small, seed, device, smallest=smallest)[line.task]
    return Noisy(task, line.noise) if line.noise else task


def _described(line: Line, sample: TestSample, several: bool) -> dict[str, Any]:
    name = f"{line.name}, {sample.variant}" if several else line.name
    level = "" if line.level is None else line.level
    return {
        **{"suite": line.suite, "block": line.block, "task": line.task, "line": name, "level": level},
        **{"image": sample.image, "given": line.given or ""},
    }
