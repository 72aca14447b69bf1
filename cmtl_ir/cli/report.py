"""`cmtl-ir report` and `cmtl-ir compare`. Other packages are imported when a command needs them."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cmtl_ir.cli.options import (
    Backbone,
    Device,
    Out,
    Set,
    TestFile,
    comparison_names,
    finished_runs,
    only_with_weights,
    strategy_labels,
)


class Form(StrEnum):
    """Format of a report."""

    md = "md"
    html = "html"
    all = "all"


def report(
    experiment: Annotated[
        list[str],
        typer.Argument(
            help="A comparison: its name, its folder, or its experiment file; several are merged into one.",
            autocompletion=comparison_names,
        ),
    ],
    format_: Annotated[Form, typer.Option("--format", help="report.md, report.html or both.")] = Form.all,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="What differences are tested against; default: joint.",
            autocompletion=strategy_labels,
        ),
    ] = None,
    conflict_at: Annotated[
        list[str], typer.Option(metavar="STEP|FIRST-LAST", help="Steps of the conflict heat-maps (repeat the option).")
    ] = [],  # noqa: B006
    tracking_uri: Annotated[
        str | None, typer.Option(help="Read from this MLflow store instead of OUT, as from one of another machine.")
    ] = None,
    out: Out = Path("runs"),
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to write; default: OUT/NAME/report.")] = None,
) -> None:
    """Write the report of a comparison: a page, tables and figures. Log it to the tracking store as well."""
    from cmtl_ir.analysis import report as pages
    from cmtl_ir.analysis.data import frames as runs
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.cli.display import report as display_report
    from cmtl_ir.store.merging import merge
    from cmtl_ir.tracking.mlflow_store import sqlite_uri

    frames = runs.opened(experiment[0], out, tracking_uri)
    if len(experiment) > 1:
        if tracking_uri is not None:
            raise UserError(f"--tracking-uri {tracking_uri}: only comparisons in folders are merged")
        homes = [Path(runs.opened(one, out).source.where) for one in experiment]
        frames = runs.opened(str(merge(homes)), out)
    home = Path(frames.source.where) if tracking_uri is None else out / frames.name
    local = home.parent / "mlflow.db"
    store = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or (sqlite_uri(local) if local.is_file() else None)
    log_to = store if len(experiment) == 1 else None  # a merged comparison was never trained
    windows = pages.windows(conflict_at)
    display_report.report(pages.write(frames, to or home / "report", format_.value, baseline, log_to, windows))


Sides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[A] [B]",
        help="A strategy with all its seeds (COMPARISON/LABEL) or one run (COMPARISON/LABEL/SEED, hash, folder).",
        autocompletion=finished_runs,
    ),
]
Checkpoints = Annotated[
    list[Path],
    typer.Option(metavar="FILE", help="An outside checkpoint in place of A or B (repeat the option for both)."),
]


def compare(
    sides: Sides = None,
    weights: Checkpoints = [],  # noqa: B006
    backbone: Backbone = "",
    file: TestFile = "",
    set_: Set = [],  # noqa: B006
    device: Device = "auto",
    out: Out = Path("runs"),
) -> None:
    """Compare two strategies over the seeds of both, or two runs: scores, significance, and differing configuration.

    Outside checkpoints are given as --weights FILE --file EXPERIMENT, and --backbone NAME if their network is not that
    of EXPERIMENT. They are scored on its test images.
    """
    from cmtl_ir.analysis import pair
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.cli.display import report as display_report
    from cmtl_ir.store import lookup

    named = list(sides or [])
    if len(named) + len(weights) != 2:
        raise UserError(
            f"expected two runs or --weights FILE, found {' '.join(map(str, [*named, *weights])) or 'none'}"
        )
    runs = {name: lookup.find_seeds(name, out) for name in named}
    if weights:
        runs |= _outside(weights, backbone, file, set_, device, out)
    else:
        only_with_weights(backbone=backbone, file=file, set=" ".join(set_))
    (one, first), (other, second) = [*runs.items()] if len(runs) == 2 else [*runs.items()] * 2
    display_report.compared(pair.compared(first, second, (one, other)))


def _outside(
    weights: list[Path], backbone: str, file: str, set_: list[str], device: str, out: Path
) -> dict[str, dict[int, Path]]:
    """Return file -> seed -> folder of the runs of outside checkpoints."""
    from cmtl_ir.cli.stored.outside import outside_models
    from cmtl_ir.runs.begin.outside import take_in
    from cmtl_ir.runs.workspace import Workspace

    experiment, models = outside_models(weights, backbone, file, set_)
    taken = [take_in(experiment, one, Workspace.at(out, device)) for one in models]
    return {str(file): {run.seed: run.folder} for file, run in zip(weights, taken, strict=True)}
