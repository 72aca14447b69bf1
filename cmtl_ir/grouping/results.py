"""Results of a grouped run: the files of an ordinary run, and the routing and cost of its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.base.environment import environment
from cmtl_ir.grouping.router import GroupedModel
from cmtl_ir.grouping.scores import grouped_scores, routing_report
from cmtl_ir.measures import curve as curves
from cmtl_ir.measures.curve import task_means
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.scale import Scale
from cmtl_ir.runs.execution import ActiveRun
from cmtl_ir.runs.results import write_curve, write_per_image
from cmtl_ir.store.folder import write_result
from cmtl_ir.store.layout import CONFIG, GROUPS, RESTORED, RESULT, image_file
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.data import Stage

Rows = Sequence[Mapping[str, Any]]


def write_results(active: ActiveRun, model: GroupedModel, members: Sequence[Run], seconds: float) -> None:
    """Score the models of a grouped run, and write scores, restored samples and the result.

    `seconds` is the time that the whole run took in this process, including probes and groups.
    """
    run, tracker, evaluator = active.run, active.tracker, active.planned.evaluator()
    rows = grouped_scores(model, evaluator)
    results = [member.result() for member in members]
    scales = evaluator.scales
    point = curves.point(sum(result["steps"] for result in results), "groups", rows, (), scales)
    tracker.log(point["step"], _metrics(point, rows, scales))
    files = [write_per_image(run.folder, rows), write_curve(run.folder, [point], scales)]
    files += _restored(run, model, evaluator)
    for file in [*files, run.folder / GROUPS, run.folder / CONFIG]:
        tracker.artifact(file, file.parent.relative_to(run.folder).as_posix())
    grouping = routing_report(rows, model) | {
        "groups": model.groups,
        "notes": model.plan["notes"],
        "threshold": model.plan["threshold"],
        **{f"{scale.name}_oracle": task_means(rows, f"{scale.name}_oracle") for scale in scales},
        "cost": _cost(model, results, rows),
        "seconds_in_all": seconds,
    }
    result = _like_any_run(run, model, point, results, rows, scales) | {"grouping": grouping}
    result |= {"parameters": grouping["cost"]["stored"], "environment": environment(active.planned.device)}
    tracker.concluding(run.folder / RESULT)
    write_result(run.folder, result)


def _metrics(point: Mapping[str, Any], rows: list[dict[str, Any]], scales: Sequence[Scale]) -> dict[str, float]:
    named = {scale.name: point[scale.name] for scale in scales}
    named |= {f"{scale.name}_oracle": task_means(rows, f"{scale.name}_oracle") for scale in scales}
    return {f"{name}/{task}": value for name, values in named.items() for task, value in values.items()}


SUMMED = (
    "step_seconds", "cpu_seconds", "step_cpu_seconds", "step_cuda_seconds", "samples_forward", "samples_backward",
)  # fmt: skip
"""Costs of a run that are those of its groups together."""


def _total(results: Rows, key: str) -> Any:
    """Return the sum of a cost over results. `None` if one of them does not have it."""
    known = [one.get(key) for one in results]
    return sum(known) if None not in known else None


def _like_any_run(
    run: Run, model: GroupedModel, point: dict[str, Any], results: Rows, rows: list[dict[str, Any]],
    scales: Sequence[Scale],
) -> dict[str, Any]:  # fmt: skip
    """Return the entries that the result of an ordinary run has, too."""
    serving = {task: results[model.serving(task)] for task in model.tasks}
    stage = Stage("groups", dict.fromkeys(model.tasks, 1.0 / len(model.tasks)), point["step"])
    val = None
    if all(result["val"] for result in results):
        named = [scale.name for scale in scales if all(scale.name in one["val"] for one in serving.values())]
        val = {name: {task: one["val"][name][task] for task, one in serving.items()} for name in named}
    return {
        "hash": run.hash,
        "seed": run.seed,
        **curves.results(rows, scales),
        **curves.continual([point], (stage,), scales),
        "val": val,
        "curve": [point],
        "steps": point["step"],
        "seconds": sum(result["seconds"] for result in results),
        **{key: _total(results, key) for key in SUMMED},
        "peak_memory_bytes": max(one.get("peak_memory_bytes") or 0 for one in results) or None,
    }


def _cost(model: GroupedModel, results: Rows, rows: Rows) -> dict[str, Any]:
    """Return the number of models, of stored parameters, and of parameters in router and models that run per image."""
    sizes = {group["run"]: result["parameters"] for group, result in zip(model.groups, results, strict=True)}
    router = 0
    if model.router is not None:
        router = sum(parameter.numel() for parameter in model.router.proxy.parameters())
    a_model = max(sizes.values())
    return {
        "models": len(sizes),
        "router": router,
        "stored": sum(sizes.values()) + router,
        "run_per_image": router + a_model * sum(row["models"] for row in rows) / len(rows),
    }


def _restored(run: Run, model: GroupedModel, evaluator: Evaluator) -> list[Path]:
    """Write the example images of an ordinary run, restored under the routing of the grouped run."""
    from cmtl_ir.tasks.images.encode import write_image

    (run.folder / RESTORED).mkdir(exist_ok=True)
    written = []
    for name, task in evaluator.tasks.items():
        sample = task.example()
        routing = model.told(name) if model.router is None else model.find(sample.degraded)
        restored = model.restored(sample.degraded, routing, evaluator.tile)
        for label, image in (("input", sample.degraded), ("restored", restored), ("clean", sample.clean)):
            written.append(write_image(image_file(run.folder, name, label), image))
    return written
