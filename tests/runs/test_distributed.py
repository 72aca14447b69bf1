"""Two ranks (gloo) against one process: the same samples, the same state, the same result within float tolerance.

Tolerance: final weights differ by at most 1e-4 of how far training moved them, what is logged by 1e-4.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from cmtl_ir.backbones.building import initial_model
from cmtl_ir.base import yaml
from cmtl_ir.config.reading import merged
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs.plan import Comparison
from tests import tiny

BANK = f"{Path(__file__).parents[1] / 'objective' / 'own.py'}:Bank"
STRATEGIES: dict[str, Any] = {
    "joint": {},
    "art": {"weighting": "art"},
    "pcgrad": {"surgery": "pcgrad"},
    "review": {"curriculum": "review", "weighting": "famo"},
    "bank": {"auxiliary": [{"name": BANK}, {"name": "frequency", "weight": 0.01}], "weighting_sees": "total"},
    "contrast": {
        "auxiliary": [
            {"name": "degradation_contrast", "momentum": 0.5, "bank": 5},
            {"name": "curricular_cr", "features": "random", "renew": [2, 3], "every": 4, "probes": 2},
        ]
    },
    "bank_by_row": {"auxiliary": {"name": BANK}, "surgery": "pcgrad"},
}
OVER: dict[str, Any] = {"training": {"batch": 7}, "evaluation": {"every": 0}, "data": {"test_crop": 24}}
RAW = merged(tiny.RAW, OVER)  # 7 samples: the ranks hold 3 and 4, and a row's samples are on one rank or on both


def command(folder: Path, strategies: dict[str, Any], *more: str, ranks: int = 2) -> list[str]:
    folder.mkdir(exist_ok=True)
    file = folder / "tiny.yaml"
    file.write_text(yaml.dump({**RAW, "strategies": strategies}))
    return [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks), "--standalone",
        "--local_addr", "127.0.0.1", "-m", "cmtl_ir", "run", str(file),
        "--out", str(folder / "out"), "--device", "cpu", *more,
    ]  # fmt: skip


def start(arguments: list[str]) -> subprocess.Popen[str]:
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=quiet)


def finished(arguments: list[str]) -> str:
    process = start(arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    made = tiny.experiment(STRATEGIES, **OVER)
    return runs.run(made, tmp_path_factory.mktemp("alone"), "cpu")


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("together")
    output = finished(command(folder, STRATEGIES))
    assert output.count("look at:") == 1, "one rank speaks"
    return runs.run(tiny.experiment(STRATEGIES, **OVER), folder / "out", "cpu")


def weights(comparison: Comparison, label: str) -> torch.Tensor:
    (run,) = [run for run in comparison.runs if run.label == label]
    state = safetensors.torch.load_file(run.folder / "weights.safetensors")
    return torch.cat([state[name].flatten() for name in sorted(state)])


def logged(comparison: Comparison, label: str) -> list[tuple[int, dict[str, float]]]:
    (run,) = [run for run in comparison.runs if run.label == label]
    lines = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], {k: v for k, v in line["metrics"].items() if not k.startswith("cost/")}) for line in lines]


@pytest.mark.parametrize("label", STRATEGIES)
def test_two_ranks_train_what_one_process_trains(alone: Comparison, together: Comparison, label: str) -> None:
    one, two = weights(alone, label), weights(together, label)
    made = tiny.experiment(STRATEGIES)
    state = initial_model(made.strategies[label].backbone(made.backbone, list(made.tasks)), 0).state_dict()
    begin = torch.cat([state[name].flatten() for name in sorted(state)])
    moved = (one - begin).norm()
    assert moved > 0.1
    assert (one - two).norm() < 1e-4 * moved


@pytest.mark.parametrize("label", STRATEGIES)
def test_two_ranks_log_the_losses_weights_and_conflicts_of_one_process(
    alone: Comparison, together: Comparison, label: str
) -> None:
    one, two = logged(alone, label), logged(together, label)
    assert [(step, sorted(values)) for step, values in one] == [(step, sorted(values)) for step, values in two]
    worst = 0.0
    for (_, expected), (_, found) in zip(one, two, strict=True):
        for name, value in expected.items():
            worst = max(worst, abs(found[name] - value) / max(1.0, abs(value)))
    assert worst < 1e-4
