"""What the gradient of every row costs, as a ratio to one joint step: stream | grouped | retain_graph, K rows.

    python tests/benchmarks/gradients.py [--rounds 9] [--threads 2] [--settings 0 3]

Two ratios each: the engine alone against a joint forward and backward, and the whole tier (engine, Gramian, v @ J,
`.grad`) against the same. Runs are interleaved, A B C A B C ..., and the medians of each are compared: what else
the machine does slows all alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.backbones import build
from cmtl_ir.gradients import RowGradients, choose_engine

SETTINGS: list[dict[str, Any]] = [
    {"rows": 5, "batch": 10, "patch": 64, "width": 16, "encoder": [1, 1, 1, 28], "middle": 1, "decoder": [1] * 4},
    {"rows": 16, "batch": 16, "patch": 64, "width": 16, "encoder": [1, 1, 1, 28], "middle": 1, "decoder": [1] * 4},
    {"rows": 5, "batch": 10, "patch": 48, "width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1] * 3},
    {"rows": 5, "batch": 20, "patch": 128, "width": 16, "encoder": [1] * 4, "middle": 1, "decoder": [1] * 4},
]
GOALS = (1.25, 1.4, 1.25, 0.9)


class Case:
    """One network, one batch, and the ways to step on it."""

    def __init__(self, setting: dict[str, Any]) -> None:
        fields = dict(setting)
        rows, batch, patch = fields.pop("rows"), fields.pop("batch"), fields.pop("patch")
        torch.manual_seed(0)
        self.model: nn.Module = build("nafnet", **fields).to(memory_format=torch.channels_last)
        self.sizes = [batch // rows + (k < batch % rows) for k in range(rows)]
        self.offsets = [sum(self.sizes[:k]) for k in range(rows + 1)]
        self.x = torch.rand(batch, 3, patch, patch).to(memory_format=torch.channels_last)
        self.y = torch.rand_like(self.x)
        self.patch = patch
        self.size = sum(p.numel() for p in self.model.parameters())
        self.engines = {name: RowGradients(self.model, rows, name) for name in ("stream", "grouped")}

    def forward(self, start: int, stop: int) -> Tensor:
        """The network on samples start .. stop."""
        return self.model(self.x[start:stop])

    def loss(self, output: Tensor, row: int) -> Tensor:
        """Row k's mean L1 loss."""
        return (output - self.y[self.offsets[row] : self.offsets[row + 1]]).abs().mean()

    def joint(self) -> None:
        """One forward and one backward of the mean of the rows' losses."""
        self.model.zero_grad(set_to_none=True)
        output = self.model(self.x)
        losses = [self.loss(part, row) for row, part in enumerate(output.split(self.sizes))]
        torch.stack(losses).mean().backward()

    def rows_of(self, engine: str) -> Tensor:
        """The row gradients alone."""
        self.model.zero_grad(set_to_none=True)
        return self.engines[engine](self.forward, self.sizes, self.loss)[0]

    def tier(self, engine: str) -> None:
        """Everything that the gramian tier does in a step, up to `.grad`."""
        rows = self.rows_of(engine)
        self.engines[engine].gramian(rows)
        self.engines[engine].write_update(torch.full((len(rows),), 1.0 / len(rows)) @ rows)

    def retain_graph(self) -> None:
        """The naive way: one joint forward, K backward passes through all of it."""
        output = self.model(self.x)
        losses = [self.loss(part, row) for row, part in enumerate(output.split(self.sizes))]
        for loss in losses:
            torch.autograd.grad(loss, list(self.model.parameters()), retain_graph=True)


def interleaved(
    ways: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each way; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = clock()
            way()
            times[name].append(clock() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--settings", type=int, nargs="*", default=list(range(len(SETTINGS))))
    parser.add_argument(
        "--cpu", action="store_true", help="CPU time, for a busy machine; means little beyond one thread"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, medians of {options.rounds}; ratios to a joint step")
    print("  K  batch patch       P  joint ms | stream grouped | tier stream grouped | retain_graph | choice  goal")
    for index in options.settings:
        case = Case(SETTINGS[index])
        ways: dict[str, Callable[[], Any]] = {"joint": case.joint, "retain_graph": case.retain_graph}
        for engine in ("stream", "grouped"):
            ways[engine] = lambda case=case, engine=engine: case.rows_of(engine)
            ways[f"tier {engine}"] = lambda case=case, engine=engine: case.tier(engine)
        seconds = interleaved(ways, options.rounds, time.process_time if options.cpu else time.perf_counter)
        ratio = {name: value / seconds["joint"] for name, value in seconds.items()}
        choice = choose_engine(len(case.x) / len(case.sizes), case.patch)
        print(
            f"{len(case.sizes):3d} {len(case.x):6d} {case.patch:5d} {case.size:7d} {seconds['joint'] * 1e3:9.1f} |"
            f" {ratio['stream']:6.2f} {ratio['grouped']:7.2f} |"
            f" {ratio['tier stream']:11.2f} {ratio['tier grouped']:7.2f}"
            f" | {ratio['retain_graph']:12.2f} | {choice:7s} {GOALS[index]}"
        )


if __name__ == "__main__":
    main()
