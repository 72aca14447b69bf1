"""Terminal output on unlearning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
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

LACKING = "-"


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
            for table in _tables(report, scale):
                show(table)
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


def _tables(report: Report, scale: Scale) -> list[Table]:
    """Return tables of scores, gap and harm by one metric, each narrow enough for the terminal.

    Columns that are independent of the metric are in those of PSNR. Every table begins with the methods.
    """
    title = f"{report.name}: forget {', '.join(report.forget)}" + ("" if scale == PSNR else f", {scale.label}")
    names, columns = ["(degraded input)", *report.labels], _columns(report, scale)
    room = console.width - max(map(cell_len, names))
    tables: list[dict[str, list[str]]] = [{}]
    left = room
    for heading, cells in columns.items():
        width = 2 + max(map(cell_len, [heading, *cells]))
        if width > left and tables[-1]:
            tables.append({})
            left = room
        tables[-1][heading] = cells
        left -= width
    return [_table(title, names, one) for one in tables]


def _table(title: str, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in zip(names, *columns.values(), strict=True):
        table.add_row(*row)
    return table


def _columns(report: Report, scale: Scale) -> dict[str, list[str]]:
    """Return heading -> cells: that of the degraded input, then one per method."""
    models = [report.of(label) for label in report.labels]
    unit = scale.unit or scale.label
    columns = {f"forget {unit}": [_input(report, scale), *(_forgotten(report, own, scale) for own in models)]}
    columns[f"gap {unit}"] = [LACKING, *(_gap(report, own, scale) for own in models)]
    for task in report.retain:
        harms = [mean_of([report.harm(one, task, scale) for one in own]) for own in models]
        columns[f"harm {task}"] = [LACKING, *(f"{harm:+.{scale.digits}f}" for harm in harms)]
    if scale == PSNR:
        audits = zip(*(_audit(report, own) for own in models), strict=True)
        ends = ("AUC", "relearn", "steps", report.time_unit)
        columns |= {heading: [LACKING, *cells] for heading, cells in zip(ends, audits, strict=True)}
    return columns


def _input(report: Report, scale: Scale) -> str:
    """Return the score of the degraded input on the forgotten tasks."""
    known = [one.result.get(f"{scale.name}_input", {}).get(task) for one in report.models for task in report.forget]
    return LACKING if None in known else scale.text(mean_of(known))


def _forgotten(report: Report, models: Sequence[Measured], scale: Scale) -> str:
    return scale.text(mean_of([one.score(task, scale) for one in models for task in report.forget]))


def _gap(report: Report, models: Sequence[Measured], scale: Scale) -> str:
    gaps = [report.gap(one, task, scale) for one in models for task in report.forget]
    known = [gap for gap in gaps if gap is not None]
    return f"{mean_of(known):+.{scale.digits}f}" if len(known) == len(gaps) else NO_REFERENCE


def _audit(report: Report, models: Sequence[Measured]) -> list[str]:
    backs = [one.audit.relearning.steps for one in models if one.audit.relearning]
    relearnt = [step for step in backs if step is not None]
    return [
        f"{mean_of([one.audit.attack.estimate for one in models]):.2f}",
        f"{mean_of(relearnt):.0f}" if backs and len(relearnt) == len(backs) else f"> {report.budget}" if backs else "-",
        f"{mean_of([one.steps for one in models]):.0f}",
        f"{mean_of([report.time_of(one) for one in models]):.0f}",
    ]
