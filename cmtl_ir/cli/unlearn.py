"""`cmtl-ir unlearn`. Other packages are imported when the command needs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmtl_ir.cli.options import (
    Backbone,
    Device,
    DryRun,
    Fresh,
    Offline,
    Out,
    Ray,
    Set,
    TestFile,
    TrackingUri,
    Weights,
    Workers,
    names_of,
    only_with_weights,
    runs_and_experiments,
)

if TYPE_CHECKING:
    from cmtl_ir.runs.workspace import Workspace
    from cmtl_ir.unlearning.requests import Answer, Asked


What = Annotated[
    str,
    typer.Argument(
        metavar="[RUN|FILE]",
        autocompletion=runs_and_experiments,
        help="A finished run (COMPARISON/LABEL[/SEED], its hash, or its folder) with --forget; or an experiment "
        "with `unlearning:`; or nothing with --weights.",
    ),
]
Forget = Annotated[list[str], typer.Option(help="A task to forget (repeat the option).")]
Method = Annotated[
    list[str],
    typer.Option(
        help="Method (repeat the option); default: instance_wise, or all methods of FILE.",
        autocompletion=names_of("unlearning"),
    ),
]
Steps = Annotated[int | None, typer.Option(help="Another number of steps for methods that train.", min=0)]
Retain = Annotated[bool, typer.Option(help="Whether data of the retained tasks may be read.")]
Relearn = Annotated[int | None, typer.Option(help="Maximum number of relearning steps; 0: none (default 100).", min=0)]
Reference = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="With --weights: weights of a model that was trained without the tasks."),
]


def unlearn(
    what: What = "",
    forget: Forget = [],  # noqa: B006
    weights: Weights = None,
    backbone: Backbone = "",
    file: TestFile = "",
    reference: Reference = None,
    method: Method = [],  # noqa: B006
    steps: Steps = None,
    retain: Retain = True,
    relearn: Relearn = None,
    device: Device = "auto",
    set_: Set = [],  # noqa: B006
    out: Out = Path("runs"),
    tracking_uri: TrackingUri = None,
    offline: Offline = False,
    workers: Workers = 1,
    ray: Ray = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
) -> None:
    """Make a finished run forget tasks, and compare each result with the run retrained without them.

    The network of an outside checkpoint is given as --weights FILE --file EXPERIMENT, and --backbone NAME if it is not
    that of EXPERIMENT.
    """
    from cmtl_ir.cli.display import live
    from cmtl_ir.cli.display import unlearning as shown
    from cmtl_ir.runs.workspace import Workspace
    from cmtl_ir.unlearning.requests import fulfil_all

    workspace = Workspace.at(out, device, None if offline else tracking_uri, workers, ray)
    what, set_ = _taken_in(what, weights, backbone, file, reference, forget, set_, workspace)
    folders, tasks, asked = _asked(what, forget, method, steps, retain, set_, workspace)
    if dry_run:
        shown.plans([one.jobs for one in asked])
        return
    with live() as bars:
        answer = fulfil_all(folders, asked, tasks, replace(workspace, progress=bars.of_run), fresh)
    _report(answer, relearn, workspace)
    if any(made.failures for made in answer.requests):
        raise typer.Exit(1)


def _report(answer: Answer, relearn: int | None, workspace: Workspace) -> None:
    """Measure, store and show what every method forgot."""
    from cmtl_ir.analysis.unlearning import leave_report
    from cmtl_ir.cli.display import unlearning as shown
    from cmtl_ir.unlearning.report import RELEARN_STEPS, report_on

    for made in answer.requests:
        with shown.measuring() as announce:
            report = report_on(made, RELEARN_STEPS if relearn is None else relearn, announce)
        files = leave_report(report)
        workspace.tracking.publish(made.parent, files)
        shown.outcome(report, made.failures, files)
    shown.reassembled(answer.grouped)


def _taken_in(
    what: str,
    weights: Path | None,
    backbone: str,
    file: str,
    reference: Path | None,
    forget: list[str],
    set_: list[str],
    workspace: Workspace,
) -> tuple[str, list[str]]:
    """Return the folder of the run of an outside model and no overrides, or `what` and `set_` without --weights."""
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.cli.stored.outside import outside_models
    from cmtl_ir.unlearning.outside import outside_origin

    if weights is None:
        only_with_weights(backbone=backbone, file=file, reference=reference)
        return what, set_
    if what:
        raise UserError(f"--weights {weights}: is given in place of the run {what!r}; leave one of them out")
    if not forget:
        raise UserError(f"--forget TASK: give the task that {weights} is to forget")
    files = [weights, *([reference] if reference is not None else [])]
    experiment, models = outside_models(files, backbone, file, set_)
    folder = outside_origin(experiment, models[0], forget, workspace, models[1] if reference is not None else None)
    return str(folder), []


def _asked(
    what: str,
    forget: list[str],
    method: list[str],
    steps: int | None,
    retain: bool,
    set_: list[str],
    workspace: Workspace,
) -> tuple[list[Path], list[str], list[Asked]]:
    """Return runs, tasks and requests. With --forget, `what` is a run, and without it an experiment file."""
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.config import reading
    from cmtl_ir.unlearning.origin import find_runs
    from cmtl_ir.unlearning.requests import chosen_of, counted, finished_runs, methods_named, requests

    if forget:
        if set_:
            raise UserError("--set changes an experiment file; a finished run cannot be changed")
        folders, methods = find_runs(what, workspace.out), methods_named(method or ["instance_wise"])
    else:
        if not what:
            raise UserError("expected RUN --forget TASK, an experiment with `unlearning:`, or --weights FILE")
        if not what.endswith((".yaml", ".yml")) and what not in reading.shipped_experiments():
            raise UserError(
                f"--forget TASK: give the task that the run {what!r} is to forget, or name an experiment file"
            )
        experiment = reading.load(what, set_)
        folders = finished_runs(experiment, what, workspace)
        assert experiment.unlearning is not None
        methods, forget = chosen_of(experiment.unlearning.methods, method), experiment.unlearning.forget
        retain = retain and experiment.unlearning.retain
    return folders, forget, requests(folders, forget, counted(methods, steps), retain, workspace)
