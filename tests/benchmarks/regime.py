"""Which training regime restores, and tells strategies apart: candidates measured on the embedded photographs.

    python -m tests.benchmarks.regime FILE --measure NAME ... [--seeds 0 1 2 3] [--labels joint pcgrad single]
    python -m tests.benchmarks.regime FILE

The first form trains the runs of the named candidates that FILE does not have yet, on one thread, and appends a line of
JSON per finished run. The second prints the table of all runs in FILE.

gain: mean PSNR minus that of the degraded input, per task. worse: share of the test images (all variants) that
restoring made worse. SD: over seeds, of the mean over tasks; paired: of pcgrad minus joint. CPU: process seconds of a
run of `joint` without evaluations.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # or CPU seconds would include threads that wait

import torch

from cmtl_ir.base.yaml import parse
from cmtl_ir.config.reading import merged, validate
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests.tiny import Silent

CANDIDATES = Path(__file__).with_name("regime.yaml")
Row = dict[str, Any]


def candidates() -> dict[str, dict[str, Any]]:
    """Name -> experiment without strategies. A candidate that names another as `from` changes only what it lists."""
    listed: dict[str, dict[str, Any]] = parse(CANDIDATES.read_text(encoding="utf-8"))

    def whole(name: str) -> dict[str, Any]:
        own = dict(listed[name])
        base = own.pop("from", None)
        return own if base is None else merged(whole(base), own)

    return {name: {**whole(name), "name": name} for name in listed}


def strategies(tasks: Iterable[str], labels: Sequence[str]) -> dict[str, Any]:
    """Label -> strategy. `single` stands for one run per task."""
    known: dict[str, Any] = {"joint": {}, "pcgrad": {"surgery": "pcgrad"}, "sequential": {"curriculum": "sequential"}}
    found = {label: known[label] for label in labels if label != "single"}
    if "single" in labels:
        found |= {f"single_{task}": {"curriculum": {"name": "single", "task": task}} for task in tasks}
    return found


def measured(raw: Mapping[str, Any], label: str, strategy: Mapping[str, Any], seed: int) -> Row:
    """Train and score one run: CPU seconds, and [PSNR, PSNR of the input] of each test image by task."""
    made, device = validate({**raw, "strategies": {label: strategy}}, str(raw["name"])), torch.device("cpu")
    tasks = build_tasks(made.tasks, made.data, seed, device)
    learner = Learner(made, made.strategies[label], tasks, seed, device)
    started, cpu = time.time(), time.process_time()
    train(learner, Silent())
    cpu = time.process_time() - cpu
    learner.model.load_state_dict(learner.evaluated_weights())
    scored = Evaluator(tasks, made.evaluation.protocol, made.evaluation.tile, device, metrics=("psnr",))
    images: dict[str, list[list[float]]] = {}
    for row in scored.scores(learner.model):
        images.setdefault(row["task"], []).append([round(row["psnr"], 4), round(row["psnr_input"], 4)])
    if label.startswith("single_"):
        images = {label.removeprefix("single_"): images[label.removeprefix("single_")]}
    return {"candidate": raw["name"], "label": label, "seed": seed, "cpu": round(cpu, 1),
            "wall": round(time.time() - started, 1), "images": images}  # fmt: skip


def measure(file: Path, names: Sequence[str], seeds: Sequence[int], labels: Sequence[str]) -> None:
    """Append the runs that are not in the file, candidate by candidate."""
    torch.set_num_threads(1)
    known = candidates()
    for name in names:
        for seed in seeds:
            for label, strategy in strategies(known[name]["tasks"], labels).items():
                if (name, label, seed) in {(row["candidate"], row["label"], row["seed"]) for row in read(file)}:
                    continue
                row = measured(known[name], label, strategy, seed)
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")


def read(file: Path) -> list[Row]:
    """The runs of a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def psnr(row: Row, task: str) -> float:
    """Mean PSNR of a task."""
    return statistics.fmean(after for after, _ in row["images"][task])


def gain(rows: Iterable[Row], task: str) -> float:
    """Mean over runs and images of PSNR minus the PSNR of the input; NaN without runs."""
    found = [after - before for row in rows for after, before in row["images"][task]]
    return statistics.fmean(found) if found else math.nan


def worse(rows: Iterable[Row]) -> float:
    """Share of images below their input; NaN without runs."""
    found = [after < before for row in rows for images in row["images"].values() for after, before in images]
    return statistics.fmean(found) if found else math.nan


def spread(values: Sequence[float]) -> float:
    """Standard deviation; NaN for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def line(name: str, rows: Sequence[Row]) -> str:
    """The row of a candidate in the table."""
    runs: dict[str, dict[int, Row]] = {}
    for row in rows:
        runs.setdefault(row["label"], {})[row["seed"]] = row
    tasks = list(candidates()[name]["tasks"])
    joint, alone = runs.get("joint", {}), {task: runs.get(f"single_{task}", {}) for task in tasks}
    level = {seed: statistics.fmean(psnr(row, task) for task in tasks) for seed, row in joint.items()}
    whole = [seed for seed in level if all(seed in alone[task] for task in tasks)]
    singly = [statistics.fmean(psnr(alone[task][seed], task) for task in tasks) for seed in whole]
    paired = [
        statistics.fmean(psnr(row, task) for task in tasks) - level[seed]
        for seed, row in sorted(runs.get("pcgrad", {}).items())
        if seed in level
    ]
    cells = [
        " / ".join(shown(gain(alone[task].values(), task)) for task in tasks),
        " / ".join(shown(gain(joint.values(), task)) for task in tasks),
        shown(worse(row for task in tasks for row in alone[task].values()), ".0%"),
        shown(worse(joint.values()), ".0%"),
        shown(spread(singly)),
        shown(spread(list(level.values()))),
        " ".join(f"{one:+.2f}" for one in paired) or "-",
        shown(spread(paired)),
        shown(statistics.median([row["cpu"] for row in joint.values()] or [math.nan]), ".0f"),
        f"{len(joint)} / {len(paired)} / {len(whole)}",
    ]
    return "| " + " | ".join([name, *cells]) + " |"


def shown(value: float, form: str = ".2f") -> str:
    """The number, or a dash for NaN."""
    return "-" if math.isnan(value) else format(value, form)


HEAD = (
    "candidate",
    "single gain, dB",
    "joint gain, dB",
    "single worse",
    "joint worse",
    "SD single",
    "SD joint",
    "pcgrad - joint, by seed",
    "SD paired",
    "CPU s",
    "seeds joint / pairs / single",
)


def table(rows: Sequence[Row]) -> str:
    """The table of all candidates with runs, in the order of regime.yaml."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---|" + "---:|" * (len(HEAD) - 1)]
    for name in candidates():
        if own := [row for row in rows if row["candidate"] == name]:
            lines.append(line(name, own))
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--measure", nargs="+", default=[], choices=list(candidates()), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--labels", nargs="+", default=["joint", "pcgrad", "single"])
    given = parser.parse_args()
    measure(given.file, given.measure, given.seeds, given.labels)
    if not given.measure:
        print(table(read(given.file)))
