"""Terminal output on adaptation at test time: one table per kind of adapter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cmtl_ir.adaptation.scoring import ORDERS, Line, summary
from cmtl_ir.base.escaping import csv_text
from cmtl_ir.base.files import write_whole
from cmtl_ir.cli.display import say, show
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.inference.adapted_scores import evaluate_adapted
from cmtl_ir.inference.published import Published
from cmtl_ir.measures.scale import Scale

BLOCKS = {True: "settings of the training", False: "settings outside the training"}


def evaluate(
    used: Path | Published,
    experiment: Experiment,
    adapt: Sequence[str],
    out: Path,
    device: str,
    metrics: Sequence[str],
    scale: Scale,
    file: Path | None,
) -> None:
    """Score a run or a checkpoint under adapters, and print the tables of its first metric."""
    rows = evaluate_adapted(used, experiment, adapt, out=out, device=device, metrics=metrics, say=say)
    scores(rows, scale, experiment.evaluation.protocol, file)


def scores(rows: list[dict[str, Any]], scale: Scale, protocol: str, file: Path | None) -> None:
    """Print a table per kind and block. Write all rows to `file` unless it is `None`."""
    for (kind, block), lines in groupby(summary(rows, scale), key=lambda line: (line.kind, line.as_in_training)):
        show(_table(list(lines), scale, f"{kind}, {BLOCKS[block]}, protocol {protocol}"))
    say("gain: over the degraded image; vs none: over the network without adaptation; worse: share of images below")
    say(
        "none; s: seconds an image; drift: largest |w - w0| / |w0|; moved: largest share of the parameters that changed"
    )
    if any(row["kind"] == "online" for row in rows):
        say(f"online: mean over {ORDERS} keyed orders of each task's images, with the range of the orders' means")
    if any(row["kind"] == "two passes" for row in rows):
        say("two passes: the network has adapted to all test images before it is scored on them (transductive)")
    if file is not None:
        names = list(rows[0])
        write_whole(file, csv_text([names, *([row[name] for name in names] for row in rows)]))
        say(f"scores of {len(rows)} answers in {file}")


def _table(lines: Sequence[Line], scale: Scale, title: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    for name in ("task", "adapter"):
        table.add_column(name)
    for name in ("images", scale.heading, "gain", "vs none", "worse", "s", "steps", "drift", "moved"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        low, high = line.spread
        score = (
            scale.text(line.score)
            if low == high
            else f"{scale.text(line.score)} [{scale.text(low)}, {scale.text(high)}]"
        )
        gains = (f"{gain:+.{scale.digits}f}" for gain in (line.over_input, line.over_none))
        table.add_row(
            line.task, line.adapter, str(line.images), score, *gains, f"{line.harmed:.0%}", f"{line.seconds:.2g}",
            f"{line.steps:g}", f"{line.drift:.1e}" if line.drift else "0", f"{line.moved:.0%}",
        )  # fmt: skip
    return table
