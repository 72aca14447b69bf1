"""The evaluations of a run as plain data: one point per evaluation, each metric a mapping from task to mean score.

A point is {"step", "stage_end", METRIC: {task: score}, ..., "val": {METRIC: {task: score}}}. `stage_end` is the name
of the stage that ended there, or `None`. "val" is absent if there are no validation images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cmtl_ir.measures.continual import forgotten_now, summary
from cmtl_ir.measures.scale import DEFAULT, PSNR, Scale

if TYPE_CHECKING:  # imports torch
    from cmtl_ir.strategy.data import Stage

Rows = Sequence[Mapping[str, Any]]
"""One row per image, as `Evaluator.scores` returns them."""


def task_means(rows: Rows, column: str = PSNR.name) -> dict[str, float]:
    """Return task -> mean over its images of a column of `Evaluator.scores`."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["task"], []).append(row[column])
    return {task: sum(listed) / len(listed) for task, listed in values.items()}


def point(step: int, stage_end: str | None, rows: Rows, val: Rows, scales: Sequence[Scale]) -> dict[str, Any]:
    """Return the point of one evaluation. `val` are the rows of the validation images, empty if there are none."""
    found: dict[str, Any] = {"step": step, "stage_end": stage_end}
    found |= {scale.name: task_means(rows, scale.name) for scale in scales}
    return found | ({"val": {scale.name: task_means(val, scale.name) for scale in scales}} if val else {})


def logged(curve: Sequence[Mapping[str, Any]], stages: Sequence[Stage], scales: Sequence[Scale]) -> dict[str, float]:
    """Return the logged values of the latest point: METRIC/task, METRIC_val/task, their means, and forgetting.

    The forgetting of PSNR is forgetting/task in dB, and that of further metrics is forgetting_METRIC/task. It counts
    from the best evaluation. forgetting/mean is logged at the ends of stages and counts from the best end of a stage,
    so that its last value is the forgetting in the tables.
    `stages`: the finished stages and the current one.
    """
    values: dict[str, float] = {}
    for scale in scales:
        name, forgetting = scale.name, "forgetting" if scale == PSNR else f"forgetting_{scale.name}"
        named = {name: curve[-1][name], f"{name}_val": curve[-1].get("val", {}).get(name, {})}
        values |= {f"{kind}/mean": sum(scores.values()) / len(scores) for kind, scores in named.items() if scores}
        named[forgetting] = forgotten_now(curve, stages, scale)
        values |= {f"{kind}/{task}": value for kind, scores in named.items() for task, value in scores.items()}
        if curve[-1]["stage_end"] is not None:
            mean = summary(curve, stages, scale)["mean_forgetting_db"]
            values |= {} if mean is None else {f"{forgetting}/mean": mean}
    return values | {f"worst_task/{PSNR.name}": min(curve[-1][PSNR.name].values())}


def tidy(curve: Sequence[Mapping[str, Any]], scales: Sequence[Scale]) -> list[dict[str, Any]]:
    """Return the rows of curve.csv: step, stage_end, task and the metrics, one row per evaluation and task.

    A metric that was added while the run was interrupted is `None` at earlier points.
    """
    return [
        {"step": one["step"], "stage_end": one["stage_end"] or "", "task": task}
        | {scale.name: one.get(scale.name, {}).get(task) for scale in scales}
        for one in curve
        for task in one[PSNR.name]
    ]


def results(rows: Rows, scales: Sequence[Scale]) -> dict[str, dict[str, float]]:
    """Return the final scores in result.json: METRIC and METRIC_input, each task -> mean."""
    found = {scale.name: task_means(rows, scale.name) for scale in scales}
    return found | {f"{scale.name}_input": task_means(rows, f"{scale.name}_input") for scale in scales}


def continual(curve: Sequence[Mapping[str, Any]], stages: Sequence[Stage], scales: Sequence[Scale]) -> dict[str, Any]:
    """Return R and its measures as in result.json, under `continual` for PSNR.

    Metrics other than the default ones are under `continual_by_metric`, and their scales under `metrics`.
    """
    found: dict[str, Any] = {"continual": summary(curve, stages)}
    if tuple(scales) == DEFAULT:
        return found
    others = {scale.name: summary(curve, stages, scale) for scale in scales if scale != PSNR}
    return found | {"continual_by_metric": others, "metrics": [scale.plain() for scale in scales]}


def scales_of(result: Mapping[str, Any]) -> tuple[Scale, ...]:
    """Return the scales of the metrics in a result.json. Older results have the default ones."""
    return tuple(Scale(**plain) for plain in result["metrics"]) if "metrics" in result else DEFAULT


def scales_in(found: Sequence[Mapping[str, Any]]) -> tuple[Scale, ...]:
    """Return the metrics of several result.json in the order of their first appearance, PSNR first."""
    named = {scale.name: scale for result in found for scale in (PSNR, *scales_of(result))}
    return tuple(named.values()) if found else DEFAULT


def continual_of(result: Mapping[str, Any], scale: Scale) -> Mapping[str, Any]:
    """Return the entry of a result.json on forgetting in a metric. Its value is `None` if there is no entry."""
    if scale == PSNR:
        found: Mapping[str, Any] = result["continual"]
        return found
    return dict(result.get("continual_by_metric", {}).get(scale.name, {"mean_forgetting_db": None}))
