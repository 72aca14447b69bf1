"""Scores of a grouped run: routed blindly, routed by an oracle, and what the router got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cmtl_ir.grouping.router import GroupedModel, Routing
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.tasks.task import TestSample


def grouped_scores(model: GroupedModel, evaluator: Evaluator) -> list[dict[str, Any]]:
    """One row an image, as `Evaluator.scores` gives them under the run's own routing, with the oracle's
    scores (METRIC_oracle), the task it was taken for, the group, the distance, and what other rules would have said."""
    rows = []
    for task, sample, identity in evaluator.samples():
        told, found, others = model.told(task), model.told(task), {}
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
    """Task -> task it was taken for -> images."""
    return {
        true: {taken: sum(r["task"] == true and r[column] == taken for r in rows) for taken in tasks} for true in tasks
    }


def routing_report(rows: Sequence[dict[str, Any]], model: GroupedModel) -> dict[str, Any]:
    """Confusion matrix, share of images sent to the right task and to the right group by each rule, and by chance."""
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
