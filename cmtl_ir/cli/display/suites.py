"""Terminal output on suites: one table per suite, and per kind of adapter on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cmtl_ir.adaptation.scoring import ORDERS
from cmtl_ir.base.files import write_table
from cmtl_ir.cli.display import say, show
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.inference import open_sets, suite_files
from cmtl_ir.strategy.adaptation import KINDS
from cmtl_ir.suites.blocks import BLOCKS
from cmtl_ir.suites.catalogue import SUITES
from cmtl_ir.suites.severity import NAME as SEVERITY
from cmtl_ir.suites.summary import CONTROLS, EPISODIC, Summary, beyond_gap, kinds_of, of_kind, reach, summaries

WIDE = 3
"""Largest number of answers with columns for score, gain and harm each; more answers have one column each."""


def evaluate(
    used: Any,
    experiment: Experiment,
    names: Sequence[str],
    adapt: Sequence[str],
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
    rows = open_sets.evaluate_suites(
        used, experiment, names, adapt=adapt, out=out, device=device, metrics=metrics, task=task,
        ranges=reading.load(source), say=say,
    )  # fmt: skip
    if keeps:
        suite_files.keep(used, rows)
    suites(rows, experiment.evaluation.protocol, csv)


def suites(rows: Sequence[Mapping[str, Any]], protocol: str, file: Path | None) -> None:
    """Print a table per suite and kind, in PSNR. Write all rows, with every metric, to `file` unless it is `None`."""
    found = summaries(rows)
    for name in dict.fromkeys(one.suite for one in found):
        _suite([one for one in found if one.suite == name], name, protocol)
    say("gain: mean over images of PSNR minus that of the degraded image, +- the 95 % interval over images where there")
    say("are enough; harm: share of images that are worse than the degraded ones; single: the task's single-task run")
    for label in dict.fromkeys(one.answer for one in found if one.cost):
        say(_cost_words(label, [one for one in found if one.answer == label]))
    if file is not None:
        write_table(file, list(dict.fromkeys(column for row in rows for column in row)), rows)
        say(f"scores of {len(rows)} restored images in {file}")


def _suite(found: Sequence[Summary], name: str, protocol: str) -> None:
    for kind in kinds_of(found):
        own = of_kind(found, kind)
        adapted = any(one.answer not in CONTROLS for one in own)
        title = f"suite {name}{f', {kind} adapters' if adapted else ''}, PSNR dB, protocol {protocol}"
        answers = list(dict.fromkeys(one.answer for one in own))
        show(_table(own, answers, title) if len(answers) <= WIDE else _gains(own, answers, title))
    if name in SUITES:
        say(f"{name}: {SUITES[name].about}")
    if name == SEVERITY:
        _reach(found)


def _table(found: Sequence[Summary], answers: Sequence[str], title: str) -> Table:
    """Return a table with score, gain and harm of each answer."""
    return _filled(found, title, [text for answer in answers for text in (answer, "gain", "harm")],
                   lambda line: [text for answer in answers for text in _cells(line.get(answer))])  # fmt: skip


def _gains(found: Sequence[Summary], answers: Sequence[str], title: str) -> Table:
    """Return a table with one column for each answer: its gain, and its harm in brackets."""

    def cells(line: Mapping[str, Summary]) -> list[str]:
        return ["" if (one := line.get(answer)) is None else f"{_gain(one)} ({one.harm:.0%})" for answer in answers]

    return _filled(found, f"{title}: gain (harm)", list(answers), cells)


def _filled(
    found: Sequence[Summary], title: str, columns: Sequence[str], cells: Callable[[Mapping[str, Summary]], list[str]]
) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1))
    for column in ("range", "task", "test"):
        table.add_column(column)
    for column in ("images", "identity", *columns):
        table.add_column(column, justify="right")
    for block in (one for one in BLOCKS if any(line.block == one for line in found)):
        lines: dict[tuple[str, str], dict[str, Summary]] = {}
        for one in found:
            if one.block == block:
                lines.setdefault((one.task, one.line), {})[one.answer] = one
        for (task, line), by_answer in lines.items():
            first = next(iter(by_answer.values()))
            table.add_row(block, task, line, str(first.images), f"{first.identity:.2f}", *cells(by_answer))
        table.add_section()
    return table


def _cells(one: Summary | None) -> tuple[str, str, str]:
    if one is None:
        return "", "", ""
    low, high = one.spread
    orders = f" [{low:.2f}, {high:.2f}]" if low < high else ""
    return f"{one.score:.2f}{orders}", _gain(one), f"{one.harm:.0%}"


def _gain(one: Summary) -> str:
    half = (one.gain.high - one.gain.low) / 2
    interval = f" ± {half:.2f}" if half == half else ""  # NaN: too few images
    return f"{one.gain.estimate:+.2f}{interval}"


def _cost_words(label: str, found: Sequence[Summary]) -> str:
    """Return what an adapter took over all its lines, and in how many orders an online one was scored."""
    images = sum(one.images for one in found)
    mean = {name: sum(one.cost[name] * one.images for one in found) / images for name in ("seconds", "steps")}
    drift, moved = (max(one.cost[name] for one in found) for name in ("drift", "moved"))
    kind = found[0].kind
    orders = "" if kind == EPISODIC else f" ({kind})"
    if kind == KINDS["stream"]:
        apart = max(high - low for low, high in (one.spread for one in found))
        orders = f" (online: mean over {ORDERS} keyed orders, whose means differ by up to {apart:.2f} dB)"
    return (
        f"{label}{orders}: {mean['seconds']:.2g} s and {mean['steps']:g} steps per image, drift {drift:.1e}, "
        f"{moved:.0%} of the parameters moved"
    )


def _reach(found: Sequence[Summary]) -> None:
    """Say, per task and answer, where the gain ends and what it loses beyond the training range."""
    for answer in dict.fromkeys(one.answer for one in found):
        said = []
        for task in dict.fromkeys(one.task for one in found):
            own = [one for one in found if (one.task, one.answer) == (task, answer)]
            if not own:  # a task without a single-task run
                continue
            gap = beyond_gap(own)
            ends = reach({one.level: one.gain.estimate for one in own if one.level is not None})
            said.append(f"{task} {ends}, {'none' if gap is None else f'{gap:+.2f} dB'}")
        say(f"{answer}: first severity whose gain is below 0, and gap (gain inside - gain beyond): {'; '.join(said)}")
