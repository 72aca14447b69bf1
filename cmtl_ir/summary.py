"""One run's continual measures, from its curve and its stages (METHODS 7: R matrix, forgetting, transfer)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmtl_ir import continual
from cmtl_ir.continual import NEVER, StageScores
from cmtl_ir.metrics import PSNR
from cmtl_ir.strategy import Stage


def summary(
    curve: Sequence[dict[str, Any]], stages: Sequence[Stage], identity: dict[str, float]
) -> dict[str, Any]:
    """ACC, BWT, FWT and forgetting of a finished run, in dB; `identity`: task -> PSNR of the degraded input.

    `forgetting_db` per task is from R (stage ends; null for tasks of the last stage); `best_minus_final_db`, and its
    mean, is over all evaluations and exists for every strategy, joint training included.
    """
    tasks = tuple(curve[0]["psnr"])
    ends = [point for point in curve if point["stage_end"] is not None]
    results = StageScores(_table(ends, tasks), tasks, own_stages(stages, tasks), PSNR)
    drop = continual.forgetting_curve(_table(curve, tasks), PSNR)[-1] if len(curve) > 1 else np.zeros(len(tasks))
    return {
        "R": results.scores.tolist(),
        "stages": [stage.name for stage in stages],
        "acc_db": _number(continual.average(results)),
        "bwt_db": _number(continual.backward_transfer(results)),
        "fwt_db": _number(continual.forward_transfer(results, [identity[task] for task in tasks])),
        "forgetting_db": dict(zip(tasks, map(_number, continual.forgetting_db(results)), strict=True)),
        "best_minus_final_db": dict(zip(tasks, map(float, drop), strict=True)),
        "mean_forgetting_db": float(np.mean(drop)),
    }


def own_stages(stages: Sequence[Stage], tasks: Sequence[str]) -> tuple[int, ...]:
    """[T]: the stage that first trained each task, or NEVER."""
    first = {task: NEVER for task in tasks}
    for number, stage in reversed(list(enumerate(stages))):
        first |= {row.rpartition(":")[2]: number for row, share in stage.mixture.items() if share > 0}
    return tuple(first[task] for task in tasks)


def _table(points: Sequence[dict[str, Any]], tasks: Sequence[str]) -> np.ndarray:
    return np.array([[point["psnr"][task] for task in tasks] for point in points])  # [E, T]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
