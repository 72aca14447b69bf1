"""Terminal output on seeds: what they can show, and the plan and outcome of --resolve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cmtl_ir.cli import display
from cmtl_ir.cli.display import say, show
from cmtl_ir.cli.display import scores as display_scores
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.measures.seeds import default_baseline, over_seeds
from cmtl_ir.runs import two_stage
from cmtl_ir.runs.plan import Comparison, prepare
from cmtl_ir.runs.probes import probe
from cmtl_ir.runs.two_stage import Aim, SeedPlan

if TYPE_CHECKING:
    from cmtl_ir.analysis.tables import formats

LEFT_OUT = {"p"}
"""Columns of the report's table that the terminal leaves out."""


def dry_run(experiment: Experiment, aim: Aim | None, out: Path, device: str) -> None:
    """Print the runs that would be trained, and the two-stage plan as far as it is known."""
    if aim is None:
        prepared = prepare(experiment, out, device)
        probe(prepared)
        display.dry_run(prepared)
        return
    prepared, plan = two_stage.prepare_both(experiment, aim, out, device)
    probe(prepared)
    display.dry_run(prepared)
    for line in two_stage.words(experiment, plan):
        say(line)


def results(made: Comparison, plan: SeedPlan | None, files: Sequence[Path]) -> None:
    """Print the scores of a comparison, its differences over seeds, and the paths of its files."""
    display_scores.comparison(made)
    outcome(made, plan)
    display_scores.files(made, files)


def outcome(made: Comparison, plan: SeedPlan | None) -> None:
    """Print the differences to the baseline over seeds, and how small a difference these seeds detect."""
    from cmtl_ir.analysis.tables.resolution import table_of
    from cmtl_ir.analysis.tables.two_stage import two_stage_table
    from cmtl_ir.analysis.verdicts import ONE_SEED

    scores, labels = two_stage.seed_scores(made.runs), two_stage.competing(made.experiment)
    own = {label: scores[label] for label in labels if label in scores}
    if len(own) < 2:
        return
    baseline = default_baseline(list(own))
    found = table_of(over_seeds(own, baseline), baseline)
    if found is None:
        say(ONE_SEED)
        return
    _show(found)
    if plan is not None and (intervals := two_stage_table(plan, scores)) is not None:
        _show(intervals)


def _show(found: formats.Table) -> None:
    table = Table(title=found.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    kept = [place for place, heading in enumerate(found.headings) if heading not in LEFT_OUT]
    for place in kept:
        table.add_column(found.headings[place], justify="left" if place == 0 else "right")
    for row in found.rows:
        table.add_row(*(row[place].text for place in kept))
    show(table)
