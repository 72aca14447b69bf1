"""`cmtl-ir tune`. Other packages are imported when the command needs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmtl_ir.cli.options import (
    Device,
    DryRun,
    File,
    Offline,
    Out,
    Quiet,
    Ray,
    Set,
    TrackingUri,
    Verbose,
    Workers,
    loudness_of,
)

if TYPE_CHECKING:  # `--help` loads nothing heavy
    from cmtl_ir.runs.plan import Comparison


def tune(
    file: File,
    trials: Annotated[
        int | None, typer.Option(help="Number of trials of every strategy, over all calls.", min=1)
    ] = None,
    device: Device = "auto",
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs"),
    tracking_uri: TrackingUri = None,
    offline: Offline = False,
    workers: Workers = 1,
    ray: Ray = None,
    dry_run: DryRun = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Tune every strategy with the same number of trials, then compare all of them at their default and at their best.

    Tuning uses validation images and seeds of its own. The same command resumes it.
    """
    from cmtl_ir.base import ranks
    from cmtl_ir.cli import display
    from cmtl_ir.cli.display import search as display_search
    from cmtl_ir.cli.display import tuning as display_tuning
    from cmtl_ir.runs import comparison as runs
    from cmtl_ir.runs.workspace import Workspace
    from cmtl_ir.search import tuned, tuning
    from cmtl_ir.search.trials import prepare, search

    loudness = loudness_of(verbose, quiet)
    ranks.refuse("cmtl-ir tune", "give --workers N, or start the same command several times")
    plan = tuning.load(file, set_, trials)
    uri = None if offline else tracking_uri
    workspace = Workspace.at(out, device, uri, workers, ray)
    for one in plan.studies:
        prepare(one.plan, workspace)
    display_tuning.plan(plan)
    if dry_run:
        display.say("Nothing was trained.")
        return
    finished = []
    for one in plan.studies:
        with display_search.live(loudness) as shown:
            finished.append(tuned.Tuned(one, search(one.plan, workspace, shown)))
        display_tuning.outcome(finished[-1], plan.config.objective)
    table = tuned.write_tuning(plan, finished, out)
    with display.live(loudness) as bars:
        workspace = Workspace.at(out, device, uri, workers, ray, bars.of_run)
        comparison = runs.train_all(tuned.comparison_of(plan, finished), workspace)
    _report(comparison, table)


def _report(comparison: Comparison, tuning: Path) -> None:
    """Write and print the results of the comparison. Exits with code 1 if a run failed."""
    from cmtl_ir.analysis.comparison import leave_figures_and_tables
    from cmtl_ir.cli.display import resolution as display_resolution
    from cmtl_ir.cli.display import scores as display_scores

    files = [*leave_figures_and_tables(comparison), tuning]
    comparison.tracking.publish(comparison.parent, files)
    display_scores.comparison(comparison)
    display_resolution.outcome(comparison, None)
    display_scores.files(comparison, files)
    if comparison.failures:
        raise typer.Exit(1)
