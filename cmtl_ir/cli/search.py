"""`cmtl-ir search` and `cmtl-ir sync`. Other packages are imported when a command needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def search(
    file: File,
    trials: Annotated[int | None, typer.Option(help="Number of settings to try, over all calls.", min=1)] = None,
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
    """Search for good settings with Optuna. The same command resumes a study, or joins one that is running."""
    from cmtl_ir.analysis.search import leave_search_figures
    from cmtl_ir.base import ranks
    from cmtl_ir.cli.display import search as display_search
    from cmtl_ir.runs.workspace import Workspace
    from cmtl_ir.search import config as search_config
    from cmtl_ir.search.report import importances, parameter_names, trial_rows
    from cmtl_ir.search.trials import parent_of, prepare
    from cmtl_ir.search.trials import search as finish

    loudness = loudness_of(verbose, quiet)
    ranks.refuse("cmtl-ir search", "give --workers N, or start the same command several times")
    plans, failed = search_config.load(file, set_, trials), 0
    workspace = Workspace.at(out, device, None if offline else tracking_uri, workers, ray)
    for plan in plans:
        if dry_run:
            prepare(plan, workspace)
            display_search.plan(plan)
            continue
        with display_search.live(loudness) as shown:
            found = finish(plan, workspace, shown)
        rows, shares = trial_rows(plan, found.study), importances(plan, found.study)
        searched = parameter_names(plan, rows)
        figures = leave_search_figures(rows, plan.search.objectives, shares, found.folder, searched)
        found.tracking.publish(parent_of(plan, found.tracking), figures)
        pictures = [file for file in figures if file.suffix == ".png"]
        failed += len(display_search.outcome(plan, found.study, [*found.files, *pictures]))
    if failed:
        raise typer.Exit(1)


def sync(
    folder: Annotated[Path, typer.Argument(help="A run's folder, or any above it.")] = Path("runs"),
    tracking_uri: Annotated[
        str | None, typer.Option(help="URI of the store, if it needs a password; default: as recorded.")
    ] = None,
) -> None:
    """Deliver to the tracking store what could not be delivered while it was unreachable."""
    from cmtl_ir.cli import display
    from cmtl_ir.tracking.sync import sync as deliver_all

    done = deliver_all(folder, tracking_uri)
    display.say(f"{done.delivered} run{'s' if done.delivered != 1 else ''} brought up to date")
    for home in done.at_work:
        display.say(f"{home} is being trained: it delivers its own records")
