"""Terminal output on scores: the table of a comparison, of images that were scored again, and of suites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cmtl_ir.base.escaping import csv_text
from cmtl_ir.base.files import write_table, write_whole
from cmtl_ir.cli import display
from cmtl_ir.cli.display import say, show
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.own_training import in_words
from cmtl_ir.grouping.words import report_lines
from cmtl_ir.inference import open_sets
from cmtl_ir.measures.curve import scales_in, task_means
from cmtl_ir.measures.scale import Scale
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.suites.blocks import BLOCKS
from cmtl_ir.suites.catalogue import SUITES
from cmtl_ir.suites.severity import NAME as SEVERITY
from cmtl_ir.suites.summary import Summary, beyond_gap, reach, summaries

if TYPE_CHECKING:
    from cmtl_ir.analysis.tables import formats


def comparison(made: Comparison) -> None:
    """Print one table strategy x task per metric (PSNR and SSIM share one), and failures."""
    from cmtl_ir.analysis.tables.runs import groups_of, runs_table

    results, tasks = made.results(), list(made.experiment.tasks)
    with_ssim = display.console.width >= 40 + 13 * len(tasks)  # the files have both
    for together in groups_of(scales_in(results), with_ssim) if results else ():
        _runs(made, runs_table(results, tasks, together, compact=True), results, together[0])
    say("forgets: best score after an earlier stage minus the last (PSNR in dB), mean over the tasks learnt before the")
    say("last stage, none where there is one stage; s: seconds of the whole run (CPU s: of CPU time, over all threads)")
    for label, strategy in made.experiment.strategies.items():
        if strategy.training:
            say(f"{label}: own training: {in_words(strategy.training)}")
    for line in (line for result in results for line in report_lines(result)):
        say(line)
    for name, reason in made.failures.items():
        say(f"failed: {name}: {reason}")


def files(made: Comparison, written: Sequence[Path]) -> None:
    """Print the paths of the files of a comparison."""
    say("look at:")
    for file in written:
        say(f"  {file}")
    if not made.tracking.uri.startswith("http"):
        say(f"  mlflow ui --backend-store-uri {made.tracking.uri}")
    say(f"  {made.tracking.page()}")


def _runs(made: Comparison, found: formats.Table, results: Sequence[dict[str, Any]], head: Scale) -> None:
    which = "" if head.higher_is_better else ", lower is better"
    title = f"{made.experiment.name}: {found.title}{which}, protocol {made.experiment.evaluation.protocol}"
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    table.add_column("strategy")
    first = 1 if len(made.experiment.seeds) > 1 else 2  # one seed needs no column
    timed = [result.get("cpu_seconds") for result in results]
    on_cpu = None not in timed and all(result.get("step_cuda_seconds") is None for result in results)
    for column in (*found.headings[first:-1], "forgets", "CPU s" if on_cpu else "s"):
        table.add_column(column, justify="right", no_wrap=True)
    inputs = len(found.rows) - len(results)
    seconds = [""] * inputs + [f"{result['cpu_seconds' if on_cpu else 'seconds']:.0f}" for result in results]
    for place, (row, taken) in enumerate(zip(found.rows, seconds, strict=True)):
        cells = [row[0], *row[first:]]
        table.add_row(*(cell.text for cell in cells), taken, style="dim" if place < inputs else None)
    show(table)


def scores(rows: list[dict[str, Any]], scales: Sequence[Scale], protocol: str, file: Path | None) -> None:
    """Print means per task. Write all rows to `file` unless it is `None`."""
    table = Table(title=f"protocol {protocol}")
    columns = [(scale, suffix) for scale in scales for suffix in ("", "_input")]
    for column in ("task", "images", *(f"input {s.heading}" if suffix else s.heading for s, suffix in columns)):
        table.add_column(column, justify="left" if column == "task" else "right")
    means = [(scale, task_means(rows, f"{scale.name}{suffix}")) for scale, suffix in columns]
    for task in means[0][1]:
        count = str(sum(row["task"] == task for row in rows))
        trained = all(row.get("trained", True) for row in rows if row["task"] == task)
        table.add_row(
            task if trained else f"{task} (not trained)", count, *(scale.text(found[task]) for scale, found in means)
        )
    show(table)
    if file is not None:
        names = list(rows[0])
        write_whole(file, csv_text([names, *([row[name] for name in names] for row in rows)]))
        say(f"scores of {len(rows)} images in {file}")


def evaluate_suites(
    used: Any,
    experiment: Experiment,
    names: Sequence[str],
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
    ranges = reading.load(source)
    rows = open_sets.evaluate_suites(
        used, experiment, names, out=out, device=device, metrics=metrics, task=task, ranges=ranges, say=say
    )
    if keeps:
        open_sets.keep(used, rows)
    suites(rows, experiment.evaluation.protocol, csv)


def suites(rows: Sequence[Mapping[str, Any]], protocol: str, file: Path | None) -> None:
    """Print a table per suite, in PSNR. Write all rows, with every metric, to `file` unless it is `None`."""
    found = summaries(rows)
    for name in dict.fromkeys(one.suite for one in found):
        _suite_table(name, [one for one in found if one.suite == name], protocol)
    say("gain: mean over images of PSNR minus that of the degraded image, +- the 95 % interval over images where there")
    say("are enough; harm: share of images that are worse than the degraded ones; single: the task's single-task run")
    if file is not None:
        write_table(file, list(dict.fromkeys(column for row in rows for column in row)), rows)
        say(f"scores of {len(rows)} restored images in {file}")


def _suite_table(name: str, found: Sequence[Summary], protocol: str) -> None:
    answers = list(dict.fromkeys(one.answer for one in found))
    table = Table(title=f"suite {name}, PSNR dB, protocol {protocol}", box=SIMPLE_HEAD, padding=(0, 1))
    for column in ("range", "task", "test"):
        table.add_column(column)
    for column in ("images", "identity", *(text for answer in answers for text in (answer, "gain", "harm"))):
        table.add_column(column, justify="right")
    for block in (one for one in BLOCKS if any(line.block == one for line in found)):
        lines: dict[tuple[str, str], dict[str, Summary]] = {}
        for one in found:
            if one.block == block:
                lines.setdefault((one.task, one.line), {})[one.answer] = one
        for (task, line), by_answer in lines.items():
            first = next(iter(by_answer.values()))
            cells = [text for answer in answers for text in _cells(by_answer.get(answer))]
            table.add_row(block, task, line, str(first.images), f"{first.identity:.2f}", *cells)
        table.add_section()
    show(table)
    if name in SUITES:
        say(f"{name}: {SUITES[name].about}")
    if name == SEVERITY:
        _reach(found, answers)


def _cells(one: Summary | None) -> tuple[str, str, str]:
    if one is None:
        return "", "", ""
    half = (one.gain.high - one.gain.low) / 2
    interval = f" ± {half:.2f}" if half == half else ""  # NaN: too few images
    return f"{one.score:.2f}", f"{one.gain.estimate:+.2f}{interval}", f"{one.harm:.0%}"


def _reach(found: Sequence[Summary], answers: Sequence[str]) -> None:
    """Say, per task and answer, where the gain ends and what it loses beyond the training range."""
    for answer in answers:
        said = []
        for task in dict.fromkeys(one.task for one in found):
            own = [one for one in found if (one.task, one.answer) == (task, answer)]
            if not own:  # a task without a single-task run
                continue
            gap = beyond_gap(own)
            ends = reach({one.level: one.gain.estimate for one in own if one.level is not None})
            said.append(f"{task} {ends}, {'none' if gap is None else f'{gap:+.2f} dB'}")
        say(f"{answer}: first severity whose gain is below 0, and gap (gain inside - gain beyond): {'; '.join(said)}")
