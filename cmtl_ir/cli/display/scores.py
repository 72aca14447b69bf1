"""Terminal output on scores: the table of a comparison, and of images that were scored again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cmtl_ir.base.escaping import csv_text
from cmtl_ir.base.files import write_whole
from cmtl_ir.cli import display
from cmtl_ir.cli.display import say, show
from cmtl_ir.config.own_training import in_words
from cmtl_ir.grouping.words import report_lines
from cmtl_ir.measures.curve import scales_in, task_means
from cmtl_ir.measures.scale import Scale
from cmtl_ir.runs.plan import Comparison

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
