"""The table of runs, with one line per run and one column per task. The terminal and table.md show the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cmtl_ir.measures.curve import continual_of
from cmtl_ir.measures.scale import PSNR, SSIM, Scale

from .formats import NOTHING, Cell, Table

Result = Mapping[str, Any]
"""The content of a result.json, with the `label` of its strategy."""


def groups_of(scales: Sequence[Scale], with_ssim: bool = True) -> list[tuple[Scale, ...]]:
    """Group metrics by table. PSNR and SSIM share one, and each further metric has its own."""
    first = (PSNR, SSIM) if with_ssim and SSIM in scales else (PSNR,)
    return [first, *((scale,) for scale in scales if scale not in (PSNR, SSIM))]


def runs_table(
    results: Sequence[Result], tasks: Sequence[str], together: Sequence[Scale], compact: bool = False
) -> Table:
    """Return the table strategy x task of metrics that share a cell. Mean and forgetting are those of the first metric.

    The first line is the degraded input, with a line per seed if the test images rotate. A run that was not scored by
    the first metric has dashes.
    """
    head = together[0]
    shown = [[head.text(score) for score in (one.get(f"{head.name}_input") or {}).values()] for one in results]
    inputs = [one for place, one in enumerate(results) if shown[place] not in shown[:place]]
    name = "(input)" if compact else "(degraded input)"
    rows = [
        _line(name, str(one["seed"]) if len(inputs) > 1 else "", one, tasks, together, "_input", compact)
        for one in inputs
    ]
    rows += [_line(one["label"], str(one["seed"]), one, tasks, together, "", compact) for one in results]
    title = ("/" if compact else " / ").join(scale.heading for scale in together)
    ends = ["mean", f"forgetting {head.unit or head.label}"]
    return Table("runs", title, ["strategy", "seed", *tasks, *ends], rows, words=2)


def _line(
    name: str, seed: str, result: Result, tasks: Sequence[str], together: Sequence[Scale], suffix: str, compact: bool
) -> list[Cell]:
    head = together[0]
    scores: dict[Scale, Any] = {scale: result.get(f"{scale.name}{suffix}") for scale in together}
    if scores[head] is None:
        return [Cell(name), Cell(seed), *[NOTHING] * (len(tasks) + 2)]
    joint = "/" if compact else " / "
    cells = [joint.join(_text(scale, found, task, compact) for scale, found in scores.items()) for task in tasks]
    forgotten = None if suffix else continual_of(result, head)["mean_forgetting_db"]
    ends = [head.text(mean(scores[head])), "" if forgotten is None else head.text(forgotten)]
    return [Cell(name), Cell(seed), *(Cell(text) for text in [*cells, *ends])]


def _text(scale: Scale, found: Mapping[str, float] | None, task: str, compact: bool) -> str:
    if found is None:
        return NOTHING.text
    if compact and scale == SSIM:
        return f"{found[task]:.3f}".removeprefix("0")
    return scale.text(found[task])


def mean(scores: Mapping[str, float]) -> float:
    """Return the mean of the scores over tasks."""
    return sum(scores.values()) / len(scores)
