"""What the gradient of every row costs, as a ratio to one joint step, for K rows and P parameters.

    python -m tests.benchmarks.gradients [--rounds 2] [--threads 2] [--goals] [--cpu] [--peers 5e6]

stream, grouped: the engine, the Gramian, v @ J and `.grad`, that is, all that a Gramian method adds to a step.
retain_graph: one joint forward pass and K backward passes; autojac: torchjd's Jacobian. Both stop at the row
gradients. The ways take turns, A B C A B C ..., and the medians of each are compared: what else the machine does
slows all alike.
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
from cmtl_ir.base.memory import keep_freed_memory
from cmtl_ir.gradients.rows import RowGradients, choose_engine
from cmtl_ir.strategy.output import Output

SMALL = {"width": 16, "encoder": [1, 1, 1], "middle": 3, "decoder": [1, 1, 1]}
MIDDLE = {"width": 16, "encoder": [1, 1, 1, 28], "middle": 1, "decoder": [1, 1, 1, 1]}
LARGE = {"width": 32, "encoder": [1, 1, 1, 28], "middle": 1, "decoder": [1, 1, 1, 1]}
GRID: list[dict[str, Any]] = [
    {"rows": rows, "batch": batch, "patch": patch, **network}
    for network, patch in ((SMALL, 64), (MIDDLE, 48), (LARGE, 32))
    for rows, batch in ((3, 6), (5, 10), (8, 8), (16, 16))
]
TINY = {"width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1, 1, 1]}
WIDE = {"width": 16, "encoder": [1, 1, 1, 1], "middle": 1, "decoder": [1, 1, 1, 1]}
GOALS: list[dict[str, Any]] = [
    {"rows": 5, "batch": 10, "patch": 64, **MIDDLE, "goal": 1.25},
    {"rows": 16, "batch": 16, "patch": 64, **MIDDLE, "goal": 1.4},
    {"rows": 5, "batch": 10, "patch": 48, **TINY, "goal": 1.25},
    {"rows": 5, "batch": 20, "patch": 128, **WIDE, "goal": 0.9},
]


class Case:
    """One network, one batch, and the ways to step on it."""

    def __init__(self, setting: dict[str, Any]) -> None:
        fields = {key: value for key, value in setting.items() if key != "goal"}
        rows, batch, self.patch = fields.pop("rows"), fields.pop("batch"), fields.pop("patch")
        torch.manual_seed(0)
        self.model: nn.Module = build("nafnet", **fields).to(memory_format=torch.channels_last)
        self.sizes = [batch // rows + (k < batch % rows) for k in range(rows)]
        self.offsets = [sum(self.sizes[:k]) for k in range(rows + 1)]
        self.x = torch.rand(batch, 3, self.patch, self.patch).to(memory_format=torch.channels_last)
        self.y = torch.rand_like(self.x)
        self.size = sum(p.numel() for p in self.model.parameters())
        self.engines = {name: RowGradients(self.model, rows, name) for name in ("stream", "grouped")}

    def forward(self, start: int, stop: int) -> Output:
        """The network on samples start .. stop."""
        return Output.of(self.model(self.x[start:stop]))

    def loss(self, output: Output, row: int) -> Tensor:
        """Row k's mean L1 loss."""
        return (output.restored - self.y[self.offsets[row] : self.offsets[row + 1]]).abs().mean()

    def losses(self) -> Tensor:
        """[K] of one joint forward pass."""
        parts = self.forward(0, len(self.x)).split(self.sizes)
        return torch.stack([self.loss(part, row) for row, part in enumerate(parts)])

    def joint(self) -> None:
        """One forward and one backward of the mean of the rows' losses."""
        self.model.zero_grad(set_to_none=True)
        self.losses().mean().backward()

    def tier(self, engine: str) -> None:
        """Everything that the gramian tier does in a step, up to `.grad`."""
        self.model.zero_grad(set_to_none=True)
        rows = self.engines[engine](self.forward, self.sizes, self.loss)[0]
        self.engines[engine].gramian(rows)
        self.engines[engine].write_update(torch.full((len(rows),), 1.0 / len(rows)) @ rows)

    def retain_graph(self) -> None:
        """The naive way: one joint forward, K backward passes through all of it."""
        for loss in self.losses().unbind():
            torch.autograd.grad(loss, list(self.model.parameters()), retain_graph=True)

    def autojac(self) -> None:
        """TorchJD's way: the Jacobian of the losses, all rows at once by vmap."""
        from torchjd.autojac import jac

        jac(self.losses(), list(self.model.parameters()))

    def ways(self) -> dict[str, Callable[[], Any]]:
        """Name -> one step."""
        return {
            "joint": self.joint,
            "stream": lambda: self.tier("stream"),
            "grouped": lambda: self.tier("grouped"),
            "retain_graph": self.retain_graph,
            "autojac": self.autojac,
        }


def interleaved(ways: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
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
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--goals", action="store_true", help="only the four settings with a goal, without the peers")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds, for a machine that does other work besides")
    parser.add_argument("--peers", type=float, default=1e9, help="largest P at which the two slow peers are measured")
    options = parser.parse_args()
    clock = time.process_time if options.cpu else time.perf_counter
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(
        f"torch {torch.__version__}, {options.threads} threads, medians of {options.rounds}; ratios to a joint step\n"
    )
    print("| K | batch | patch | P | joint ms | stream | grouped | choice | choice's | goal | retain_graph | autojac |")
    print("|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|")
    for setting in GOALS if options.goals else GRID:
        case = Case(setting)
        ways = case.ways()
        if options.goals or case.size > options.peers:
            del ways["retain_graph"], ways["autojac"]
        seconds = interleaved(ways, options.rounds, clock)
        ratio = {name: f"{value / seconds['joint']:.2f}" for name, value in seconds.items()}
        choice = choose_engine(len(case.x) / len(case.sizes), case.patch)
        joint = f"{case.size / 1e6:.2f}M | {seconds['joint'] * 1e3:.0f}"
        peers = f"{ratio.get('retain_graph', '')} | {ratio.get('autojac', '')}"
        print(
            f"| {len(case.sizes)} | {len(case.x)} | {case.patch} | {joint} | {ratio['stream']} | {ratio['grouped']}"
            f" | {choice} | {ratio[choice]} | {setting.get('goal', '')} | {peers} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
