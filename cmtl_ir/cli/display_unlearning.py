"""Terminal output on unlearning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cmtl_ir.base.escaping import printable
from cmtl_ir.cli.display import console, say, show
from cmtl_ir.measures.scale import DEFAULT, PSNR, Scale
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.store.folder import read_result
from cmtl_ir.unlearning.jobs import runs_of
from cmtl_ir.unlearning.planning import Job
from cmtl_ir.unlearning.report import NO_REFERENCE, Measured, Report, mean_of, notes, verdict


def plans(requests: Sequence[Sequence[Job]]) -> None:
    """Print the planned runs of each request."""
    for jobs in requests:
        console.print(_plan(jobs))
    if not requests:
        say("no model of the grouped run has anything to keep of what it would forget: such models are left out")
    say("Nothing was trained.")


def _plan(jobs: Sequence[Job]) -> Table:
    table = Table(title=f"without {', '.join(jobs[0].forgotten)}", box=SIMPLE_HEAD)
    for column in ("method", "seed", "state", "steps", "run"):
        table.add_column(column)
    for job in jobs:
        for one in runs_of(job):
            steps = str(_steps(one))
            table.add_row(one.run.label, str(job.origin.seed), one.run.status, steps, str(one.run.folder))
    return table


def _steps(planned: PlannedRun) -> int:
    """Return the optimizer steps of a run, without those that it takes over."""
    # the program of a method and the parts of an ensemble know their stages
    known = getattr(planned.strategy.curriculum, "stages", None)
    total = sum(stage.steps for stage in known()) if callable(known) else planned.run.identity["training"]["steps"]
    return total - planned.steps_taken_over


@contextmanager
def measuring() -> Iterator[Callable[[str], None]]:
    """Show which model is being measured."""
    with console.status("measuring") as status:
        yield lambda name: status.update(Text(f"measuring {printable(name)}"))


def outcome(report: Report, failures: Mapping[str, str], files: Sequence[Path]) -> None:
    """Print the short table, the verdicts and the paths of the files. table.md has all columns."""
    for scale in report.scales:
        if scale == PSNR or scale not in DEFAULT:  # the files have all of them
            show(_table(report, scale))
    for label in report.labels:
        for words in verdict(report, label):
            say(f"{label}: {words}")
    for line in [*notes(report), *(f"failed: {name}: {reason}" for name, reason in failures.items())]:
        say(line)
    say("look at:")
    for file in files:
        say(f"  {file}")


def reassembled(grouped: Sequence[Path]) -> None:
    """Print the folders and scores of the grouped runs that have forgotten the tasks."""
    for folder in grouped:
        scores = read_result(folder)["psnr"]
        say(f"grouped run {folder}: {', '.join(f'{task} {psnr:.2f} dB' for task, psnr in scores.items())}")


def _table(report: Report, scale: Scale) -> Table:
    """Return the table of scores, gap and harm by one metric. Columns independent of the metric are in that of PSNR."""
    title = f"{report.name}: forget {', '.join(report.forget)}"
    title += "" if scale == PSNR else f", {scale.label}"
    table = Table(title=title, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("method", no_wrap=True)
    unit, ends = scale.unit or scale.label, ("AUC", "relearn", "steps", report.time_unit) if scale == PSNR else ()
    for column in (f"forget {unit}", f"gap {unit}", *(f"harm {task}" for task in report.retain), *ends):
        table.add_column(column, justify="right")
    for label in report.labels:
        models = report.of(label)
        table.add_row(label, *_scores(report, models, scale), *(_audit(report, models) if ends else ()))
    return table


def _scores(report: Report, models: Sequence[Measured], scale: Scale) -> list[str]:
    gaps = [report.gap(one, task, scale) for one in models for task in report.forget]
    known, signed = [gap for gap in gaps if gap is not None], f"+.{scale.digits}f"
    harms = [mean_of([report.harm(one, task, scale) for one in models]) for task in report.retain]
    return [
        scale.text(mean_of([one.score(task, scale) for one in models for task in report.forget])),
        f"{mean_of(known):{signed}}" if len(known) == len(gaps) else NO_REFERENCE,
        *(f"{harm:{signed}}" for harm in harms),
    ]


def _audit(report: Report, models: Sequence[Measured]) -> list[str]:
    backs = [one.audit.relearning.steps for one in models if one.audit.relearning]
    relearnt = [step for step in backs if step is not None]
    return [
        f"{mean_of([one.audit.attack.estimate for one in models]):.2f}",
        f"{mean_of(relearnt):.0f}" if backs and len(relearnt) == len(backs) else f"> {report.budget}" if backs else "-",
        f"{mean_of([one.steps for one in models]):.0f}",
        f"{mean_of([report.time_of(one) for one in models]):.0f}",
    ]
