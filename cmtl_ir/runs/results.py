"""Files of a finished run: weights, scores per image, curve and restored samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.base.environment import environment
from cmtl_ir.base.files import write_table
from cmtl_ir.measures.conflict import ConflictLog
from cmtl_ir.measures.curve import continual, results, tidy
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.scale import Scale
from cmtl_ir.runs.execution import ActiveRun
from cmtl_ir.runs.watching.recorder import Recorder
from cmtl_ir.runs.watching.saving import Saving
from cmtl_ir.runs.watching.scoring import Scoring
from cmtl_ir.store import checkpoint
from cmtl_ir.store.folder import write_result
from cmtl_ir.store.layout import CONFIG, CONFLICT, CURVE, PER_IMAGE, RESTORED, RESULT, WEIGHTS, image_file
from cmtl_ir.tasks.images.encode import write_image
from cmtl_ir.training.learner import Learner

COST = (
    *("steps", "seconds", "cpu_seconds", "step_seconds", "step_cpu_seconds", "step_cuda_seconds", "samples_forward"),
    *("samples_backward", "peak_memory_bytes", "parameters", "environment"),
)
"""Entries of a result on the cost of training."""


def write_results(
    active: ActiveRun, recorder: Recorder, scoring: Scoring, conflict: ConflictLog, saving: Saving
) -> None:
    """Write all files of a finished run, its result last, and add them to the tracking store.

    `saving` knows the duration of the run over all resumptions, including evaluations.
    """
    folder = active.run.folder
    if conflict.rows:
        conflict.write(folder / CONFLICT)
    write_scored(active, recorder.learner, scoring, _cost(recorder, saving))


def write_scored(active: ActiveRun, learner: Learner, scoring: Scoring, cost: Mapping[str, Any]) -> None:
    """Write the files that scores and weights make, and the result, which also holds `cost`. Track all files."""
    folder, tracker = active.run.folder, active.tracker
    files = [
        write_weights(folder, learner, active.run.identity),
        write_per_image(folder, scoring.scores),
        write_curve(folder, scoring.curve, scoring.evaluator.scales),
        *write_restored(folder, learner, scoring.evaluator),
        folder / CONFIG,
    ]
    if (folder / CONFLICT).is_file():
        files.append(folder / CONFLICT)
    for file in files:
        tracker.artifact(file, file.parent.relative_to(folder).as_posix())
    tracker.log(learner.step, _tracked_cost(cost))
    tracker.concluding(folder / RESULT)
    result = {"hash": active.run.hash, "seed": active.run.seed, **_scores(learner, scoring)}
    write_result(folder, result | dict(cost))


def _scores(learner: Learner, scoring: Scoring) -> dict[str, Any]:
    scales = scoring.evaluator.scales
    return {
        **results(scoring.scores, scales),
        **continual(scoring.curve, learner.finished, scales),
        "val": scoring.curve[-1].get("val"),
        "curve": scoring.curve,
    }


def _cost(recorder: Recorder, saving: Saving) -> dict[str, Any]:
    learner = recorder.learner
    return {
        "steps": learner.step,
        "seconds": saving.seconds,
        "cpu_seconds": saving.cpu_seconds if math.isfinite(saving.cpu_seconds) else None,
        **recorder.meter.costs(),
        "parameters": sum(parameter.numel() for parameter in learner.model.parameters()),
        "environment": environment(learner.device),
    }


def _tracked_cost(cost: Mapping[str, Any]) -> dict[str, float]:
    """Return the cost of a run as metrics: seconds of the whole run and per step, memory in MB, and parameters."""
    steps = cost.get("steps") or math.nan
    per_step = {"step_seconds": "wall", "step_cpu_seconds": "cpu", "step_cuda_seconds": "cuda"}
    found = {f"cost/{name}_ms_per_step": 1e3 * cost[key] / steps for key, name in per_step.items() if cost.get(key)}
    if cost.get("peak_memory_bytes"):
        found["cost/peak_memory_mb"] = cost["peak_memory_bytes"] / 1e6
    named = {"seconds": "seconds", "parameters": "parameters"}
    return found | {f"cost/{name}": float(cost[key]) for key, name in named.items() if cost.get(key) is not None}


def write_weights(folder: Path, learner: Learner, identity: Mapping[str, Any]) -> Path:
    """Write the evaluated weights; the header holds backbone, tasks, identity and forgotten tasks."""
    path = folder / WEIGHTS
    header = {"backbone": json.dumps(identity["backbone"]), "tasks": json.dumps(list(learner.tasks))}
    header |= {key: json.dumps(identity[key]) for key in ("unlearning", "without") if key in identity}
    checkpoint.save_weights(path, learner.evaluated_weights(), {**header, "identity": json.dumps(identity)})
    return path


def write_per_image(folder: Path, scores: list[dict[str, Any]]) -> Path:
    """Write one row per test image: task, variant, image, every metric, and the same of the degraded input."""
    return write_table(folder / PER_IMAGE, list(scores[0]) if scores else ["task"], scores)


def write_curve(folder: Path, curve: list[dict[str, Any]], scales: Sequence[Scale]) -> Path:
    """Write the curve: step, stage_end, task and every metric; one row per task and evaluation."""
    rows = tidy(curve, scales)
    return write_table(folder / CURVE, list(rows[0]) if rows else ["task"], rows)


def write_restored(folder: Path, learner: Learner, evaluator: Evaluator) -> list[Path]:
    """Write input, restored and clean version of each task's first test image, in full size, for its last variant.

    Levels are listed from mild to strong, so the last one shows the most.
    """
    (folder / RESTORED).mkdir(exist_ok=True)
    model = learner.model
    model.load_state_dict(learner.evaluated_weights())
    model.eval()
    written: list[Path] = []
    for name, task in evaluator.tasks.items():
        sample = task.example()
        restored = evaluator.restored(model, name, sample)
        for label, image in (("input", sample.degraded), ("restored", restored), ("clean", sample.clean)):
            written.append(write_image(image_file(folder, name, label), image))
    return written
