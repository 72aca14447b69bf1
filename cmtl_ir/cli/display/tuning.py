"""Terminal output on the tuning of strategies."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cmtl_ir.cli.display import say, show
from cmtl_ir.search.tuned import Tuned, in_words
from cmtl_ir.search.tuning import Tuning


def plan(what: Tuning) -> None:
    """Print what is tuned, over which settings, and what is trained afterwards."""
    studies, config = what.studies, what.config
    tuning_runs = len(studies) * what.trials * len(config.seeds)
    say(
        f"{what.experiment.name}: {len(studies)} strategies, {what.trials} trials each on seed(s) "
        f"{', '.join(map(str, config.seeds))}: {tuning_runs} runs, judged by {config.objective} on validation images"
    )
    table = Table(box=SIMPLE_HEAD)
    for column in ("strategy", "default (the first trial)", "tuned over"):
        table.add_column(column)
    for one in studies:
        over = "; ".join(f"{dimension.name}: {dimension.parameter}" for dimension in one.space)
        table.add_row(one.label, in_words(one.default), over)
    show(table)
    others = len(what.experiment.strategies) - len(studies)
    runs = (2 * len(studies) + others) * len(what.experiment.seeds)
    say(
        f"afterwards: every strategy at its default and at its best on seed(s) "
        f"{', '.join(map(str, what.experiment.seeds))}: at most {runs} runs"
    )


def outcome(one: Tuned, objective: str) -> None:
    """Print the best setting of a strategy, next to its default."""
    row = one.row(objective)
    before = f"{row['default_score']:.4g}" if row["default_score"] != "" else "not scored"
    counted = f"{row['complete']} complete, {row['pruned']} pruned, {row['failed']} failed"
    say(
        f"{one.study.label}: {objective} {row['best_score']:.4g} at {row['best']} (default: {before}); trials: "
        f"{counted}; {row['cpu_seconds']:.0f} CPU seconds"
    )
