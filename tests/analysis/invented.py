"""An invented comparison of any size, with everything that figures show: curves, conflict, weights and cost."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmtl_ir.base import yaml
from tests.analysis import forged

STEPS, EVERY, BATCH = 1000, 100, 24
CURRICULA = ("joint", "sequential", "random")
WEIGHTINGS = ("proportional", "uncertainty", "jitter")


def comparison(home: Path, strategies: int, seeds: Sequence[int], tasks: Sequence[str]) -> Path:
    """Write OUT/invented and its store. Every third strategy is sequential, and every third one has random orders.

    The last strategy was evaluated once. The first one logged no conflict.
    """
    folder, rows = home / "invented", []
    folder.mkdir(parents=True)
    names = [f"strategy{number:02d}" for number in range(strategies)]
    for number, label in enumerate(names):
        for seed in seeds:
            run = hashlib.sha256(f"{label}-{seed}".encode()).hexdigest()[:16]
            rows.append({"label": label, "seed": seed, "hash": run})
            _run(home / "store" / run, number, seed, list(tasks), is_last=number == strategies - 1)
    (folder / "runs.json").write_text(json.dumps(rows))
    whole: dict[str, Any] = {
        "name": "invented", "tasks": {task: {"degradation": "gaussian_noise"} for task in tasks}, "seeds": list(seeds),
        "data": {"test_crop": None, "test_limit": None}, "backbone": forged.IDENTITY["backbone"],
        "strategies": {label: forged.strategy(CURRICULA[n % 3]) for n, label in enumerate(names)},
        "training": {**forged.IDENTITY["training"], "steps": STEPS, "batch": BATCH},
    }  # fmt: skip
    (folder / "experiment.yaml").write_text(yaml.dump(whole))
    return folder


def _run(folder: Path, number: int, seed: int, tasks: list[str], is_last: bool) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng([number, seed])
    kind = CURRICULA[number % 3]
    order = [tasks[i] for i in random.permutation(len(tasks))] if kind == "random" else tasks
    stages = ["joint"] if kind == "joint" else order
    identity = {
        **forged.IDENTITY, "strategy": forged.strategy(kind), "seed": seed,
        "tasks": {task: f"{task}-train" for task in tasks}, "tests": {task: f"{task}-test" for task in tasks},
        "training": {**forged.IDENTITY["training"], "steps": STEPS, "batch": BATCH},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.dump({"identity": identity, "environment": {"device": "abacus"}}))
    curve = _curve(random, number, tasks, stages, is_last and kind == "joint")
    _csv(folder / "curve.csv", curve)
    final = {row["task"]: row["psnr"] for row in curve if row["step"] == STEPS}
    floor = {task: 18.0 + 3 * (place % 4) for place, task in enumerate(tasks)}
    noise = random.normal(0, 0.5, 5)
    images = [
        {
            "task": task, "variant": "", "image": f"{image}.png", "psnr": psnr + noise[image] - noise.mean(),
            "ssim": 0.8, "psnr_input": floor[task], "ssim_input": 0.5,
        }
        for task, psnr in final.items() for image in range(5)
    ]  # fmt: skip
    _csv(folder / "per_image.csv", images)
    if number:
        _csv(folder / "conflict.csv", _conflict(random, tasks, stages))
    (folder / "metrics.jsonl").write_text("".join(_weights(random, WEIGHTINGS[number % 3], tasks)))
    own = {task: stages.index(task) if len(stages) > 1 else 0 for task in tasks}
    cost = STEPS * (0.05 + 0.01 * number) * (1 + 0.02 * random.normal())
    result = {"steps": STEPS, "seconds": cost, "step_seconds": cost, "step_cpu_seconds": 2 * cost, "parameters": 1234}
    (folder / "result.json").write_text(json.dumps({**result, "continual": {"own_stage": own}}))


def _curve(
    random: np.random.Generator, number: int, tasks: list[str], stages: list[str], is_lone: bool
) -> list[dict[str, Any]]:
    steps = [STEPS] if is_lone else sorted({*range(EVERY, STEPS + 1, EVERY), *_ends(stages)})
    rows = []
    for step in steps:
        ended = _ends(stages).index(step) if step in _ends(stages) else None
        for place, task in enumerate(tasks):
            learnt = step / STEPS
            if len(stages) > 1:
                begin = _ends(stages)[stages.index(task)] - STEPS / len(stages)
                since = step - begin
                learnt = 0.0 if since <= 0 else min(1.0, since * len(stages) / STEPS) - 0.3 * max(0, since / STEPS)
            psnr = 18.0 + 3 * (place % 4) + 6 * learnt + 0.2 * number / 5 - 0.5 + random.normal(0, 0.15)
            rows.append({
                "step": step, "stage_end": "" if ended is None else stages[ended], "task": task, "psnr": psnr,
                "ssim": 0.5 + 0.01 * psnr,
            })  # fmt: skip
    return rows


def _ends(stages: list[str]) -> list[int]:
    return [round(STEPS * (place + 1) / len(stages)) for place in range(len(stages))]


def _conflict(random: np.random.Generator, tasks: list[str], stages: list[str]) -> list[dict[str, Any]]:
    rows = []
    rows_of = tasks if len(stages) == 1 else tasks[: max(2, len(tasks) // 2)]
    for step in range(0, STEPS, 50):
        for i, a in enumerate(sorted(rows_of)):
            for b in sorted(rows_of)[i:]:
                is_own, cosine = a == b, float(np.clip(random.normal(0.05, 0.2), -1, 1))
                rows.append({
                    "step": step, "row_a": a, "row_b": b, "product": 1.0 if is_own else cosine,
                    "crossed": random.normal(0.5 if is_own else 0.1, 0.1), "cosine": 1.0 if is_own else cosine,
                    "magnitude_similarity": 1.0, "curvature_bound": 0.5,
                    "displacement": random.normal(-0.5, 1) if is_own else "", "block": "",
                })  # fmt: skip
    return rows


def _weights(random: np.random.Generator, weighting: str, tasks: list[str]) -> list[str]:
    lines = []
    for step in range(0, STEPS, 50):
        counts = random.multinomial(BATCH, [1 / len(tasks)] * len(tasks))
        for place, task in enumerate(tasks):
            weight = 1.0
            if weighting == "uncertainty":
                weight *= 1 + (0.5 + 0.1 * place) * step / STEPS
            if weighting == "jitter":
                weight = len(tasks) * counts[place] / BATCH
            lines.append(json.dumps({"step": step, "metrics": {f"weight/{task}": weight}}) + "\n")
    return lines


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
