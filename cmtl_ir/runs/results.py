"""The files that a finished run leaves: weights, per-image scores, curve, restored samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmtl_ir.base.files import write_table
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import CURVE, PER_IMAGE, RESTORED, WEIGHTS, image_file
from cmtl_ir.tasks.images.encode import write_image
from cmtl_ir.training.learner import Learner


def write_weights(folder: Path, learner: Learner, identity: Mapping[str, Any]) -> Path:
    """Write the evaluated weights; the header says backbone, tasks, identity and what was forgotten."""
    path = folder / WEIGHTS
    header = {"backbone": json.dumps(identity["backbone"]), "tasks": json.dumps(list(learner.tasks))}
    header |= {key: json.dumps(identity[key]) for key in ("unlearning", "without") if key in identity}
    checkpoint.save_weights(path, learner.evaluated_weights(), {**header, "identity": json.dumps(identity)})
    return path


def write_per_image(folder: Path, scores: list[dict[str, Any]]) -> Path:
    """Write one row per test image: task, variant, image, psnr (dB), ssim, and the same of the degraded input."""
    return write_table(folder / PER_IMAGE, list(scores[0]) if scores else ["task"], scores)


def write_curve(folder: Path, curve: list[dict[str, Any]]) -> Path:
    """Write the curve: step, stage_end, task, psnr (dB), ssim; one row per task and evaluation."""
    rows = [
        {"step": p["step"], "stage_end": p["stage_end"] or "", "task": task, "psnr": psnr, "ssim": p["ssim"][task]}
        for p in curve
        for task, psnr in p["psnr"].items()
    ]
    return write_table(folder / CURVE, list(rows[0]) if rows else ["task"], rows)


def write_restored(folder: Path, learner: Learner, evaluator: Evaluator) -> list[Path]:
    """Write input, restored and clean image of each task's first test image, whole, under its last variant.

    Levels are listed from mild to strong: the last one shows most.
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
