"""What each choice of kernels is worth, as a ratio to the same step without it.

    python -m tests.benchmarks.choices [--rounds 10] [--threads 1] [--settings 0 1 2 3]

Variants take turns in one process and the minima of their processor seconds are compared, so that a loaded machine
gives ratios too. products: narrow 1x1 convolutions by oneDNN (cmtl_ir.base.pointwise), in the joint step and in one
pass split by row. blocks: the Gramian of many columns in float32 blocks (cmtl_ir.gradients.gramian). pages: page faults
of a step before and after the process keeps freed memory (cmtl_ir.base.memory), which cannot take turns: measure one
setting per process.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from unittest import mock

import torch

from cmtl_ir.base import pointwise
from cmtl_ir.base.memory import keep_freed_memory
from cmtl_ir.gradients import gramian, jacobian

from .gradients import GOALS, Case

Way = Callable[[], None]


def without_products(way: Way) -> Way:
    """The same step with the matrix products of MKL and torch's own convolutions."""

    def run() -> None:
        with (
            mock.patch.object(pointwise, "takes", lambda x, weight: False),
            mock.patch.object(pointwise, "is_supported", lambda x: False),
        ):
            way()

    return run


def without_blocks(way: Way) -> Way:
    """The same step with a Gramian in float64 throughout."""

    def run() -> None:
        with mock.patch.object(jacobian, "gramian", gramian.in_float64):
            way()

    return run


def fastest(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Return the least processor seconds of each way; the first round warms up."""
    best = dict.fromkeys(ways, float("inf"))
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if number:
                best[name] = min(best[name], time.process_time() - start)
    return best


def page_faults(way: Way) -> int:
    """Return the page faults of a step, after two that are not counted."""
    way()
    way()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    way()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--settings", type=int, nargs="+", default=list(range(len(GOALS))))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = [Case(GOALS[number]) for number in options.settings]
    faults = [page_faults(case.joint) for case in cases]
    keep_freed_memory()
    print(
        "| K | batch | patch | P | joint ms | joint: products | stream / joint | grouped / joint | grouped: products ",
        end="",
    )
    print("| grouped: blocks | pages before, after |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for case, before in zip(cases, faults, strict=True):
        ways = case.ways()
        joint, grouped = ways["joint"], ways["grouped"]
        seconds = fastest(
            {
                "joint": joint,
                "plain": without_products(joint),
                "stream": ways["stream"],
                "grouped": grouped,
                "plain grouped": without_products(grouped),
                "float64": without_blocks(grouped),
            },
            options.rounds,
        )
        ratios = [
            seconds["joint"] / seconds["plain"],
            seconds["stream"] / seconds["joint"],
            seconds["grouped"] / seconds["joint"],
            seconds["grouped"] / seconds["plain grouped"],
            seconds["grouped"] / seconds["float64"],
        ]
        size = f"{len(case.sizes)} | {len(case.x)} | {case.patch} | {case.size / 1e6:.2f}M"
        values = " | ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"| {size} | {seconds['joint'] * 1e3:.0f} | {values} | {before}, {page_faults(joint)} |", flush=True)


if __name__ == "__main__":
    main()
