"""Images per second of a bare float32 loop and of ours in float32 and bf16."""

from __future__ import annotations

from functools import partial

import torch

from cmtl_ir.backbones.building import initial_model
from tests.benchmarks.gpu.cases import Case, Sizes, Window, learner_of, measured, with_peak

HEADER = "| network | loop | images/s | times bare | peak GB | first step s |\n|---|---|--:|--:|--:|--:|"


def bare(case: Case, sizes: Sizes) -> Window:
    """Train as the authors' code does, in float32 and torch's own layout, on one batch that is on the device."""
    model = initial_model(case.backbone, 0).to(sizes.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4)
    degraded, clean = torch.rand(2, case.batch, 3, case.patch, case.patch, device=sizes.device)
    window = Window(sizes)
    while True:
        optimizer.zero_grad()
        torch.nn.functional.l1_loss(model(degraded), clean).backward()
        optimizer.step()
        if window.step_done():
            return window


def row(case: Case, loop: str, found: tuple[Window, str], base: float) -> str:
    """Return a line of the table. `base` is the seconds of a bare step."""
    window, memory = found
    rate = case.batch / window.seconds
    return f"| {case.title} | {loop} | {rate:.1f} | {base / window.seconds:.2f} | {memory} | {window.first:.1f} |"


def table(sizes: Sizes) -> None:
    """Print one line per network and loop. Ours includes its samples; the bare loop has none to make."""
    print(HEADER, flush=True)
    for case in sizes.cases():
        found = with_peak(sizes, partial(bare, case, sizes))
        base = found[0].seconds
        print(row(case, "bare, float32", found, base), flush=True)
        for precision in ("float32", "bf16"):
            learner = learner_of(sizes, case, precision=precision)
            found = with_peak(sizes, partial(measured, learner, sizes))
            print(row(case, f"ours, {precision}", found, base), flush=True)
            del learner
