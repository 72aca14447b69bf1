"""Scores of a grouped run: under its own routing, under an oracle's routing, and the errors of the router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cmtl_ir.grouping.router import GroupedModel, Routing
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.tasks.task import TestSample


def grouped_scores(model: GroupedModel, evaluator: Evaluator) -> list[dict[str, Any]]:
    """Return one row per image, as `Evaluator.scores` does, under the run's own routing.

    A row also holds the scores under the oracle's routing (METRIC_oracle), the task to which the image was assigned,
    its group and distance, and the tasks that the other rules would have assigned. No oracle knows a task that the run
    was not trained on: the scores are those of its own routing.
    """
    rows = []
    for task, sample, identity in evaluator.samples():
        found, others = model.find(sample.degraded) if task not in model.tasks else model.told(task), {}
        told = found
        if model.router is not None:
            query = model.router.query(sample.degraded)
            found = model.routed(model.router.distances(query))
            for name, rule in model.grouping.alternatives().items():
                distances = model.router.distances(query, rule)
                others[f"routed_{name}"] = min(sorted(distances), key=distances.__getitem__)
        oracle = _measured(model, evaluator, sample, told)
        same = found.weights == told.weights and found.nearest == told.nearest
        blind = oracle if same else _measured(model, evaluator, sample, found)
        row = {"task": task, "variant": sample.variant, "image": sample.image, **blind, **identity}
        row |= {f"{key}_oracle": value for key, value in oracle.items()}
        row |= {"routed": found.nearest, "group": found.group, "models": len(found.weights)}
        rows.append({**row, "distance": found.distance, "unknown": found.unknown, **others})
    return rows


def _measured(model: GroupedModel, evaluator: Evaluator, sample: TestSample, routing: Routing) -> dict[str, float]:
    restored = model.restored(sample.degraded, routing, evaluator.tile)
    return {key: float(value) for key, value in evaluator.measure(restored, sample.clean).items()}


def confusion(
    rows: Sequence[dict[str, Any]], tasks: Sequence[str], column: str = "routed"
) -> dict[str, dict[str, int]]:
    """Return the number of images by their true task and the task to which they were assigned."""
    return {
        true: {taken: sum(r["task"] == true and r[column] == taken for r in rows) for taken in tasks} for true in tasks
    }


def routing_report(rows: Sequence[dict[str, Any]], model: GroupedModel) -> dict[str, Any]:
    """Return the routing statistics of a run.

    They hold the confusion matrix, and the share of images that each rule, and chance, sends to the right task and to
    the right group. Images of tasks that the run was not trained on are left out.
    """
    rows = [row for row in rows if row["task"] in model.tasks]
    rules = {column: column.removeprefix("routed_") for column in rows[0] if column.startswith("routed_")}
    named = {"routed": "own", **rules} if model.blind else {}
    accuracy = {
        rule: {
            "task": _share(row["task"] == row[column] for row in rows),
            "group": _share(model.serving(row["task"]) == model.serving(row[column]) for row in rows),
        }
        for column, rule in named.items()
    }
    served = [len(model.groups[model.serving(row["task"])]["serves"]) for row in rows]
    chance = {"task": 1.0 / len(model.tasks), "group": sum(served) / len(served) / len(model.tasks)}
    return {
        "confusion": confusion(rows, model.tasks),
        "accuracy": {**accuracy, "chance": chance},
        "unknown": _share(row["unknown"] for row in rows),
        "images": len(rows),
    }


def _share(hits: Any) -> float:
    listed = [bool(hit) for hit in hits]
    return sum(listed) / len(listed)
