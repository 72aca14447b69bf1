"""Our tasks as a scenario of Avalanche, and a scenario's experiences as tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.tasks.images.encode import write_image
from cmtl_ir.tasks.task import Task

from ._library import library
from ._samples import Samples, labelled


def to_avalanche(tasks: Mapping[str, Task], samples: int | None = None) -> Any:
    """Return a CLScenario with one experience per task, in their order.

    A sample is (degraded, clean, the task's number). `train_stream` holds the first `samples` training crops of each
    task, drawn when they are accessed. `None` means as many as the task has images, times repeats. `test_stream` holds
    whole test images. Targets are images, so give a strategy of Avalanche an image loss as its criterion, and an
    `EvaluationPlugin` without accuracies.
    """
    train = [
        labelled(
            Samples(partial(_drawn, task), [(name, n) for n in range(samples or task.size)]), number, f"{name} train"
        )
        for number, (name, task) in enumerate(tasks.items())
    ]
    test = [
        labelled([(one.degraded[0].cpu(), one.clean[0].cpu()) for one in task.test_samples()], number, f"{name} test")
        for number, (name, task) in enumerate(tasks.items())
    ]
    return library("avalanche.benchmarks").benchmark_from_datasets(train=train, test=test)


def _drawn(task: Task, name: str, ids: Tensor) -> Batch:
    return task.batch(ids)


def from_avalanche(
    scenario: Any, folder: str | Path, names: Sequence[str] = (), degradation: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the `tasks:` section of an experiment for the experiences of a scenario.

    The images are written to `folder` as PNG files. There is one task per experience, named `names` or experience_0,
    experience_1 and so on. If the targets are images, a task consists of the pairs (input, target). If they are not
    (class labels), its inputs are clean images, and `degradation`, such as `{"degradation": "haze"}`, is applied to
    them. Raise ConfigError for labels without a degradation, and for values outside [0, 1], as from a stream that
    normalises its images.
    """
    made: dict[str, dict[str, Any]] = {}
    tests = list(getattr(scenario, "test_stream", []))
    for number, experience in enumerate(scenario.train_stream):
        name = names[number] if number < len(names) else f"experience_{number}"
        home = Path(folder).absolute() / name
        made[name] = _written(experience.dataset, home / "train", degradation)
        if number < len(tests):
            held = _written(tests[number].dataset, home / "test", degradation)
            made[name]["test"] = {key: held[key] for key in ("input", "target", "clean") if key in held}
    return made


def _written(dataset: Any, home: Path, degradation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write an experience's images below `home`, and return the task's fields."""
    paired = not np.isscalar(dataset[0][1])
    if not paired and degradation is None:
        raise ConfigError(
            f"{home.parent.name}: its targets are not images, so nothing says what to restore; "
            'give from_avalanche a degradation, such as {"degradation": "gaussian_noise"}'
        )
    sides = ("input", "target") if paired else ("clean",)
    for number, images in enumerate(_images(dataset, len(sides))):
        for side, image in zip(sides, images, strict=True):
            (home / side).mkdir(parents=True, exist_ok=True)
            write_image(home / side / f"{number:06d}.png", _checked(image, home))
    return {**({} if paired else dict(degradation or {})), **{side: str(home / side) for side in sides}}


def _images(dataset: Any, count: int) -> Iterator[Sequence[Any]]:
    for number in range(len(dataset)):
        yield dataset[number][:count]


def _checked(image: Any, home: Path) -> Tensor:
    """Return an image [1, 3, H, W] in [0, 1] from a tensor [1 or 3, H, W] or an 8-bit picture.

    Raise ConfigError for values outside [0, 1].
    """
    if not isinstance(image, Tensor):
        image = torch.from_numpy(np.atleast_3d(np.asarray(image))).permute(2, 0, 1) / 255
    low, high = image.min().item(), image.max().item()
    if low < -1e-3 or high > 1.0 + 1e-3:
        raise ConfigError(
            f"{home.parent.name}: values {low:.3g} to {high:.3g} are not an image in [0, 1]; "
            "leave normalisation out of the stream's transforms"
        )
    return image.float().expand(3, -1, -1)[None]
