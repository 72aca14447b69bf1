"""A step of pcgrad and nash_mtl with both row-gradient engines, against a joint step on the same samples."""

from __future__ import annotations

from functools import partial

from cmtl_ir.gradients.rows import choose_engine
from tests.benchmarks.gpu.cases import Case, Sizes, learner_of, measured, with_peak

ROWS = (3, 5, 16)
SURGERIES = ("pcgrad", "nash_mtl")
ENGINES = ("stream", "grouped")


def table(sizes: Sizes) -> None:
    """Print one line per number of rows, surgery and engine. The rule's own choice is marked."""
    print("| K | batch | method | engine | the rule takes it | ms per step | / joint | peak GB |")
    print("|--:|--:|---|---|---|--:|--:|--:|", flush=True)
    patch = 16 if sizes.tiny else 128
    for rows in ROWS[: 1 if sizes.tiny else None]:
        batch = rows if sizes.tiny else max(32 // rows, 2) * rows
        case = Case("nafnet", sizes.backbone("nafnet"), patch, batch)
        rule, base = choose_engine(batch / rows, patch), 0.0
        ways = [("joint", {}, "")]
        ways += [(name, {"surgery": name}, engine) for name in SURGERIES for engine in ENGINES]
        for method, strategy, engine in ways:
            training = {"engine": engine} if engine else {}
            learner = learner_of(sizes, case, strategy, rows, **training)
            window, memory = with_peak(sizes, partial(measured, learner, sizes))
            base = base or window.seconds
            figures = f"{1e3 * window.seconds:.1f} | {window.seconds / base:.2f} | {memory}"
            chosen = "yes" if engine == rule else ""
            print(f"| {rows} | {batch} | {method} | {engine} | {chosen} | {figures} |", flush=True)
            del learner
