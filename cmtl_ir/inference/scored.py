"""Which keys of an experiment decide what `evaluate` scores, so that no override is ignored in silence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import load
from cmtl_ir.store.layout import WEIGHTS
from cmtl_ir.tasks.config import DataConfig, TaskConfig

log = logging.getLogger("cmtl_ir")
TRAINING_ALONE = {"clean", "train", "val", "test", "textures", "dead_leaves", "patch", "flips", "gpu_gigabytes"}
"""Keys of `data` that do not decide how test images are read. Where these come from, `_test_images` says."""


def load_scored(name: str, overrides: Sequence[str]) -> Experiment:
    """Return the experiment of a file with overrides. Each of them changes what is scored, or repeats the file.

    Raises ConfigError naming an override that changes the experiment but nothing that is scored, with the way out.
    Warns of tasks that `data.test` does not reach because their test images are their own.
    """
    experiment = load(name, overrides)
    for number, override in enumerate(overrides):
        try:
            before = load(name, [*overrides[:number], *overrides[number + 1 :]])
        except ConfigError:  # another override needs this one, which is therefore not ignored
            continue
        if before.resolved() != experiment.resolved() and scored(before) == scored(experiment):
            raise ConfigError(f"--set {override}: changes nothing that is scored; {_way_out(override, experiment)}")
        if override.startswith("data.test=") and (apart := _with_own_test(experiment)):
            log.warning("--set %s does not reach %s", override, _own_test_words(apart))
    return experiment


def scored(experiment: Experiment) -> dict[str, Any]:
    """Return everything that decides the scores of a given network: test images, degradations, protocol, metrics."""
    data = experiment.data
    tasks = {
        name: {
            "images": _test_images(task, data),
            "degradation": task.degradation and [task.degradation.called, task.degradation.model_dump(mode="json")],
        }
        for name, task in experiment.tasks.items()
    }
    how = data.model_dump(mode="json", exclude=TRAINING_ALONE)
    evaluation = experiment.evaluation.model_dump(mode="json", exclude={"every", "suites", "adapt"})
    return {"tasks": tasks, "data": how, "evaluation": evaluation}


def _test_images(task: TaskConfig, data: DataConfig) -> Any:
    """Where a task's test images come from: its own `test:`, its pairs, `data.test`, or a share of its clean images."""
    if task.test is not None:
        return task.test
    if task.paired:
        return [getattr(task, field) for field in task.written_fields]
    return ("test", data.test) if data.test is not None else task.clean or data.clean


def _with_own_test(experiment: Experiment) -> list[str]:
    return [name for name, task in experiment.tasks.items() if task.test is not None or task.paired]


def _own_test_words(tasks: Sequence[str]) -> str:
    first = tasks[0]
    return (
        f"the tasks {', '.join(tasks)}, which have test images of their own: replace those with --set "
        f"tasks.{first}.test.input=FOLDER --set tasks.{first}.test.target=FOLDER (pairs), or leave the task out with "
        f"--set tasks.{first}=null"
    )


def _way_out(override: str, experiment: Experiment) -> str:
    key = override.partition("=")[0]
    if key.partition(".")[0] == "backbone":
        return (
            "the network of a run is fixed by its training. To score its weights in another network, give "
            f"--weights RUN/{WEIGHTS} --backbone NAME --set backbone.FIELD=VALUE --file EXPERIMENT"
        )
    if key == "data.test":
        return f"it does not reach {_own_test_words(_with_own_test(experiment))}"
    if key in ("evaluation.suites", "evaluation.adapt"):
        return f"`run` follows it; `evaluate` has the option --{key.partition('.')[2].removesuffix('s')}"
    return "it concerns training alone. `evaluate` follows test images, degradations and evaluation.*; leave it out"
