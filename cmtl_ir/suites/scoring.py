"""Scores of the lines of a suite: one row per test image, answer and order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.suites.line import Line
from cmtl_ir.suites.mixed import Noisy
from cmtl_ir.suites.summary import EPISODIC
from cmtl_ir.tasks.config import DataConfig
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task, TestSample

SMALLEST_PATCH = 8


@dataclass(frozen=True)
class Answered:
    """A restored test image."""

    restored: Tensor
    """[1, 3, H, W] in [0, 1]."""
    place: int = 0
    """Number of the image among those of its line, for an answer to all of them."""
    order: int = 0
    """Number of the order in which the images of the line came; 0 where the order does not matter."""
    took: Mapping[str, float] = field(default_factory=dict)
    """What an adaptation took: seconds, steps, drift, moved. Empty where nothing was adapted."""


Answer = Callable[[TestSample, Line], Answered | None]
"""(test sample, its line) -> its answer. `None`: there is none to this line."""


@dataclass(frozen=True)
class FolderAnswer:
    """An answer that depends on the other images of the line."""

    kind: str
    """online or two passes. Tables hold one kind, next to the controls."""
    to: Callable[[Sequence[TestSample], Line], Iterable[Answered]]
    """(test samples of a line, the line) -> answers, several per image where the images come in several orders."""


def score(
    lines: Iterable[Line], answers: Mapping[str, Answer | FolderAnswer], evaluator: Evaluator, data: DataConfig,
    seed: int, smallest: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return one row per line, test image, answer and order, with every metric and its METRIC_input.

    METRIC_input is the score of the degraded image. `evaluator` measures; its own tasks play no role. `smallest` is the
    shortest side of an image in pixels that its metrics can score.
    """
    rows = []
    for line in lines:
        task = opened(line, data, seed, evaluator.device, smallest)
        several = line.config.degradation is not None and len(line.config.degradation.variants()) > 1
        samples = ((one, inputs) for _, one, inputs in evaluator.with_tasks({line.task: task}).samples())  # type: ignore[dict-item]
        for name, kind, answered, (sample, inputs) in _answered(samples, line, answers):
            measured = {key: float(value) for key, value in evaluator.measure(answered.restored, sample.clean).items()}
            what = {**_described(line, sample, several), "answer": name, "kind": kind, "order": answered.order}
            rows.append({**what, **measured, **inputs, **answered.took})
    return rows


Scored = tuple[TestSample, dict[str, float]]
"""A test sample, and the scores of its degraded image."""


def _answered(
    samples: Iterable[Scored], line: Line, answers: Mapping[str, Answer | FolderAnswer]
) -> Iterator[tuple[str, str, Answered, Scored]]:
    """Yield (name, kind, answer, its sample). Images are held together only for answers that need them together."""
    folders = {name: one for name, one in answers.items() if isinstance(one, FolderAnswer)}
    if folders:
        samples = list(samples)
    for entry in samples:
        for name, answer in answers.items():
            if not isinstance(answer, FolderAnswer) and (found := answer(entry[0], line)) is not None:
                yield name, EPISODIC, found, entry
    for name, folder in folders.items():
        for found in folder.to([sample for sample, _ in samples], line):
            yield name, folder.kind, found, samples[found.place]  # type: ignore[index]


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
