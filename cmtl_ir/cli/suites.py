"""`evaluate --suite`, and the suites that an experiment names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # `--help` loads nothing heavy
    from cmtl_ir.config.experiment import Experiment
    from cmtl_ir.runs.plan import Comparison

Suite = Annotated[
    list[str],
    typer.Option(
        metavar="NAME|FILE.yaml",
        help="Score test sets beyond the training range instead: severity, unseen, composite, order, mixed_sources, "
        "cdd11, or a file of test sets (repeat the option).",
    ),
]
Given = Annotated[
    str | None, typer.Option(help="Trained task whose number is given for unknown tasks; default: the first.")
]


def check_suites(names: Sequence[str]) -> None:
    """Raise UserError, before anything is trained, if `evaluation.suites` names an unknown suite."""
    if names:
        from cmtl_ir.suites.catalogue import suite_name

        for name in names:
            suite_name(name)


def leave_suites(comparison: Comparison, out: Path, device: str) -> None:
    """Score the finished runs of a comparison on the suites that its experiment names."""
    if comparison.experiment.evaluation.suites:
        from cmtl_ir.inference import open_sets

        folders = [run.folder for run in comparison.runs if run.status == "finished"]
        open_sets.leave_suites(comparison.experiment, folders, out, device)


def evaluate(
    used: Any,
    experiment: Experiment,
    suites: Sequence[str],
    source: str,
    out: Path,
    device: str,
    metrics: Sequence[str],
    task: str | None,
    csv: Path | None,
    keeps: bool,
) -> None:
    """Score a run or a checkpoint on suites. `source` is its experiment as it was trained.

    `keeps`: the scores are those of the run's own test images, and are kept in its folder for the report.
    """
    from cmtl_ir.cli import display, display_scores
    from cmtl_ir.config import reading
    from cmtl_ir.inference import open_sets

    ranges = reading.load(source)
    rows = open_sets.evaluate_suites(
        used, experiment, suites, out=out, device=device, metrics=metrics, task=task, ranges=ranges, say=display.say
    )
    if keeps:
        open_sets.keep(used, rows)
    display_scores.suites(rows, experiment.evaluation.protocol, csv)
