"""What a tracking store is told of runs and comparisons: their data sets, how to repeat them, and their figures."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.measures.curve import scales_in
from cmtl_ir.measures.scale import PSNR
from cmtl_ir.measures.seeds import default_baseline
from cmtl_ir.runs.plan import TRAINING, PlannedRun
from cmtl_ir.store.layout import experiment_file
from cmtl_ir.tracking.store import Images


def images_of(planned: PlannedRun) -> list[Images]:
    """Return the training, validation and test images of a run, one data set per task and use."""
    return [one for name in planned.tasks for one in _images(planned, name)]


def _images(planned: PlannedRun, name: str) -> Iterator[Images]:
    task = planned.tasks[name]
    source = json.dumps(planned.experiment.tasks[name].model_dump(mode="json"))
    yield Images(name, "training", task.digest, len(task.splits.train), source)
    if task.splits.val is not None and task.val_digest is not None:
        yield Images(f"{name}-validation", "validation", task.val_digest, len(task.splits.val), source)
    yield Images(f"{name}-test", "test", task.test_digest, len(task.splits.test), source)


def note_of(planned: PlannedRun, out: Path) -> str:
    """Return the description of a run with the command that repeats it. Empty if no single command trains it."""
    run, experiment = planned.run, planned.experiment
    if "search.study" in run.tags:
        return f"Trial {run.tags['search.trial']} of the search `{run.tags['search.study']}`, on validation images."
    if run.label not in experiment.strategies or (planned.work != TRAINING and planned.strategy.grouping is None):
        return ""
    parts = ", ".join(f"{key} {name}" for key, name in planned.strategy.names().items() if name)
    command = f"{repeating(experiment.name, out)} --strategy {shlex.quote(run.label)} --seed {run.seed}"
    return f"Strategy `{run.label}` ({parts}) of the comparison `{experiment.name}`.\n\n    {command} --fresh"


def repeating(comparison: str, out: Path) -> str:
    """Return the command that trains a comparison again where its folder is."""
    return f"cmtl-ir run {shlex.quote(str(experiment_file(out, comparison)))} --out {shlex.quote(str(out))}"


def figures_of(results: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, str]]:
    """Return the figures of a comparison, and the labels of its best strategy and of its baseline.

    Each figure is a mean over tasks and seeds, as in the table: `best/psnr/mean`, `baseline/forgetting/mean` (in dB).
    """
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_label.setdefault(str(result["label"]), []).append(result)
    if not by_label:
        return {}, {}
    means = {label: _mean_over([_mean(one[PSNR.name]) for one in own]) for label, own in by_label.items()}
    named = {"best": max(means, key=means.__getitem__), "baseline": default_baseline(list(by_label))}
    figures = {f"{role}/{name}": value for role, label in named.items() for name, value in _figures(by_label[label])}
    figures["cost/seconds"] = sum(float(result["seconds"]) for result in results)
    return figures, named


def _figures(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    for scale in scales_in(results):
        if all(scale.name in one for one in results):
            yield f"{scale.name}/mean", _mean_over([_mean(one[scale.name]) for one in results])
    yield f"worst_task/{PSNR.name}", _mean_over([min(one[PSNR.name].values()) for one in results])
    forgotten = [one["continual"]["mean_forgetting_db"] for one in results]
    if None not in forgotten:
        yield "forgetting/mean", _mean_over(forgotten)


def _mean(scores: Mapping[str, float]) -> float:
    return _mean_over(list(scores.values()))


def _mean_over(values: Sequence[float]) -> float:
    return sum(values) / len(values)
