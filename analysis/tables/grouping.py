"""Table of grouped strategies: which tasks share a model, accuracy of the router, and stored parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cmtl_ir.measures.scale import DEFAULT, PSNR, Scale

from ..data.study import Study
from .formats import NOTHING, Cell, Table, number


def group_table(study: Study) -> Table | None:
    """Return a table with one line per grouped run, or `None` if there is no such run."""
    shown = [scale for scale in study.scales if scale == PSNR or scale not in DEFAULT]
    rows = [_row(label, seed, result, shown) for label, seed, result in _grouped(study)]
    if not rows:
        return None
    means = [heading for scale in shown for heading in (f"mean {scale.heading}", _task_given(scale))]
    headings = [
        "strategy", "groups", "seed", "right task", "right group", "group by chance", *means,
        "models", "parameters stored", "run per image",
    ]  # fmt: skip
    notes = [
        "right task, right group: share of test images that the router takes for what they are, and that reach the "
        "model which serves their task; – where the task must be given.",
        "task given: mean score where every image goes to the model that serves its task.",
        "run per image: parameters of router and models that an image passes through. In brackets: tasks that only "
        "help in a group.",
    ]
    return Table("groups", "Groups and routing", headings, rows, notes, words=2)


def _grouped(study: Study) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    for member in study.frames.finished:
        result = study.frames.results[member.run]
        if "grouping" in result and member.label in study.labels:
            yield member.label, member.seed, result


def _task_given(scale: Scale) -> str:
    return "task given" if scale == PSNR else f"{scale.label} task given"


def _row(label: str, seed: int, result: Mapping[str, Any], shown: Sequence[Scale]) -> list[Cell]:
    found = result["grouping"]
    accuracy, cost = found["accuracy"], found["cost"]
    own = accuracy.get("own")
    routed = [number(own["task"]), number(own["group"])] if own else [NOTHING, NOTHING]
    sides = [(scale, result.get(scale.name), found.get(f"{scale.name}_oracle")) for scale in shown]
    means = [number(_mean(scores), scale.digits) for scale, *both in sides for scores in both]
    return [
        Cell(label), Cell(" | ".join(_group(one) for one in found["groups"])), number(seed, 0), *routed,
        number(accuracy["chance"]["group"]), *means,
        number(cost["models"], 0), number(cost["stored"], 0), number(cost["run_per_image"], 0),
    ]  # fmt: skip


def _group(group: Mapping[str, Any]) -> str:
    return " + ".join(task if task in group["serves"] else f"({task})" for task in group["tasks"])


def _mean(scores: Mapping[str, float] | None) -> float | None:
    return sum(scores.values()) / len(scores) if scores else None
