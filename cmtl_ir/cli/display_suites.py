"""Terminal output of suites: one table per suite, and what severities say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cmtl_ir.base.files import write_table
from cmtl_ir.cli.display import say, show
from cmtl_ir.suites.blocks import BLOCKS
from cmtl_ir.suites.catalogue import SUITES
from cmtl_ir.suites.severity import NAME as SEVERITY
from cmtl_ir.suites.summary import Summary, beyond_gap, reach, summaries


def suites(rows: Sequence[Mapping[str, Any]], protocol: str, file: Path | None) -> None:
    """Print a table per suite, in PSNR. Write all rows, with every metric, to `file` unless it is `None`."""
    found = summaries(rows)
    for name in dict.fromkeys(one.suite for one in found):
        _table(name, [one for one in found if one.suite == name], protocol)
    say("gain: mean over images of PSNR minus that of the degraded image, +- the 95 % interval over images where there")
    say("are enough; harm: share of images that are worse than the degraded ones; single: the task's single-task run")
    if file is not None:
        write_table(file, list(dict.fromkeys(column for row in rows for column in row)), rows)
        say(f"scores of {len(rows)} restored images in {file}")


def _table(name: str, found: Sequence[Summary], protocol: str) -> None:
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
