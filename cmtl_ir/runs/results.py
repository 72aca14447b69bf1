"""The files that a finished run leaves: weights, per-image scores, curve, restored samples."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.store import checkpoint
from cmtl_ir.tasks.images.encode import write_image
from cmtl_ir.training.learner import Learner


def write_weights(folder: Path, learner: Learner, identity: Mapping[str, Any]) -> Path:
    """weights.safetensors: the evaluated weights; its header says backbone, tasks, identity and what was forgotten."""
    path = folder / "weights.safetensors"
    header = {"backbone": json.dumps(identity["backbone"]), "tasks": json.dumps(list(learner.tasks))}
    header |= {key: json.dumps(identity[key]) for key in ("unlearning", "without") if key in identity}
    checkpoint.save_weights(path, learner.evaluated_weights(), {**header, "identity": json.dumps(identity)})
    return path


def write_per_image(folder: Path, scores: list[dict[str, Any]]) -> Path:
    """per_image.csv: task, variant, image, psnr (dB), ssim, and the same of the degraded input."""
    return _write_csv(folder / "per_image.csv", scores)


def write_curve(folder: Path, curve: list[dict[str, Any]]) -> Path:
    """curve.csv: step, stage_end, task, psnr (dB), ssim; a row a task and evaluation."""
    rows = [
        {"step": p["step"], "stage_end": p["stage_end"] or "", "task": task, "psnr": psnr, "ssim": p["ssim"][task]}
        for p in curve
        for task, psnr in p["psnr"].items()
    ]
    return _write_csv(folder / "curve.csv", rows)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["task"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_restored(folder: Path, learner: Learner, evaluator: Evaluator) -> list[Path]:
    """restored/TASK.{input,restored,clean}.png of each task's first test image, whole, under its last variant.

    Levels are listed from mild to strong: the last one shows most.
    """
    home = folder / "restored"
    home.mkdir(exist_ok=True)
    model = learner.model
    model.load_state_dict(learner.evaluated_weights())
    model.eval()
    written: list[Path] = []
    for name, task in evaluator.tasks.items():
        sample = task.example()
        restored = evaluator.restored(model, name, sample)
        for label, image in (("input", sample.degraded), ("restored", restored), ("clean", sample.clean)):
            written.append(write_image(home / f"{name}.{label}.png", image))
    return written
