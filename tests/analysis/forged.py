"""Comparisons that were never trained: the files that runs leave, with scores that a test chooses."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmtl_ir.base import yaml
from cmtl_ir.config.reading import merged
from cmtl_ir.measures.scale import PSNR, SSIM, Scale

TASKS = ("noise", "rain")
IDENTITY: dict[str, Any] = {
    "meaning": 1,
    "tasks": {task: f"{task}-train" for task in TASKS},
    "tests": {task: f"{task}-test" for task in TASKS},
    "patch": 16,
    "flips": "dihedral",
    "backbone": {"name": "nafnet", "width": 4},
    "training": {"steps": 60, "batch": 6, "loss": "l1", "optimizer": {"name": "adamw", "lr": 4e-3}, "engine": "auto"},
    "protocol": "promptir",
}
MAE = Scale("mae", "levels", higher_is_better=False, digits=3)
"""A made-up metric that mirrors PSNR: what is better by one is better by the other, by as much."""
MIRROR = 50.0
VARIANTS = {"noise": ("sigma15", "sigma50"), "rain": ("",)}
FLOOR = {"noise": 20.0, "rain": 18.0}


def strategy(curriculum: str = "joint", **fields: Any) -> dict[str, Any]:
    """A resolved strategy of one curriculum."""
    return {"curriculum": {"name": curriculum, **fields}, "weighting": {"name": "proportional"}, "surgery": None}


def comparison(
    home: Path,
    final: Mapping[tuple[str, int], Mapping[str, float]],
    *,
    images: int = 8,
    strategies: Mapping[str, dict[str, Any]] | None = None,
    stages: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    identities: Mapping[tuple[str, int], Mapping[str, Any]] | None = None,
    results: Mapping[tuple[str, int], Mapping[str, Any]] | None = None,
    unfinished: Sequence[tuple[str, int]] = (),
    with_mae: Sequence[str] = (),
) -> Path:
    """OUT/forged with one run for each (label, seed) of `final`: task -> mean PSNR, with noise of its own an image.

    `stages`: label -> R, a row a stage; default: one stage, the final scores. Stage i first trains task i.
    `with_mae`: labels whose runs were scored by `MAE` too.
    """
    folder = home / "forged"
    folder.mkdir(parents=True)
    named = {label: strategy() for label, _ in final} | dict(strategies or {})
    seeds = sorted({seed for _, seed in final})
    rows = []
    for key, means in final.items():
        label, seed = key
        run = hashlib.sha256(f"{label}-{seed}".encode()).hexdigest()[:16]
        rows.append({"label": label, "seed": seed, "hash": run})
        identity = merged(IDENTITY | {"strategy": named[label], "seed": seed}, (identities or {}).get(key, {}))
        matrix = list((stages or {}).get(label, [])) or [means]
        home = folder.parent / "store" / run
        _run(home, identity, means, matrix, images, (results or {}).get(key, {}), key, label in with_mae)
        if key in unfinished:
            (folder.parent / "store" / run / "result.json").unlink()
    (folder / "runs.json").write_text(json.dumps(rows))
    tasks = {"noise": {"degradation": "gaussian_noise"}, "rain": {"degradation": "rain_streaks"}}
    whole = {"name": "forged", "tasks": tasks, "data": {"test_crop": None, "test_limit": None}, "seeds": seeds}
    whole |= {"strategies": named, "training": IDENTITY["training"], "backbone": IDENTITY["backbone"]}
    (folder / "experiment.yaml").write_text(yaml.dump(whole))
    return folder


def _run(
    folder: Path, identity: dict[str, Any], means: Mapping[str, float], matrix: Sequence[Mapping[str, float]],
    images: int, more: Mapping[str, Any], key: tuple[str, int], with_mae: bool,
) -> None:  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("")
    (folder / "config.yaml").write_text(yaml.dump({"identity": identity, "environment": {"device": "abacus"}}))
    random = np.random.default_rng([key[1], *key[0].encode()])
    scored = []
    for task, mean in means.items():
        for variant in VARIANTS[task]:
            noise = random.normal(0.0, 0.5, images)
            for image, score in enumerate(mean + noise - noise.mean()):
                scores = {"psnr": score, "ssim": 0.8 + score / 1000}
                scores |= {"psnr_input": FLOOR[task] + 0.1 * image, "ssim_input": 0.5}
                if with_mae:
                    scores |= {"mae": MIRROR - score, "mae_input": MIRROR - scores["psnr_input"]}
                scored.append({"task": task, "variant": variant, "image": f"{image}.png", **scores})
    _csv(folder / "per_image.csv", scored)
    steps = identity["training"]["steps"]
    curve = []
    for stage, row in enumerate(matrix):
        point = {"step": steps * (stage + 1) // len(matrix), "stage_end": f"stage{stage}"}
        curve += [
            {**point, "task": task, "psnr": psnr, "ssim": 0.8} | ({"mae": MIRROR - psnr} if with_mae else {})
            for task, psnr in row.items()
        ]
    _csv(folder / "curve.csv", curve)
    own = {task: place if len(matrix) > 1 else 0 for place, task in enumerate(means)}
    result = {"steps": steps, "seconds": 6.0, "parameters": 1234, "continual": {"own_stage": own}, **more}
    if with_mae:
        result["metrics"] = [scale.plain() for scale in (PSNR, SSIM, MAE)]
    (folder / "result.json").write_text(json.dumps(result))


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
