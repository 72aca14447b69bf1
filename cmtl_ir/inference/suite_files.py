"""The scores of suites in the folder of a run, and in its tracking store."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from cmtl_ir.base.files import write_table
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.inference.open_sets import evaluate_suites, usable_adapters
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.store.layout import SUITES
from cmtl_ir.suites.catalogue import suite_name
from cmtl_ir.suites.summary import CONTROLS, NONE, Summary, summaries
from cmtl_ir.tracking.store import add_to_run

IMAGE = ("suite", "block", "task", "line", "image")
"""Columns that tell images of suites apart."""


def keep(folder: Path, rows: Sequence[Mapping[str, Any]], uri: str | None = None) -> Path:
    """Write rows of suites into the folder of a run, in place of earlier rows of the same suites and answers.

    Earlier rows of other answers stay, such as those of other adapters, if their images are still part of the suite.
    The file and its means are added to the tracking store: `uri`, or `None` for the one that the folder names.
    """
    fresh = {(row["suite"], row["answer"]) for row in rows}
    suites, images = {row["suite"] for row in rows}, {_image(row) for row in rows}
    kept = [
        row for row in kept_rows(folder)
        if row["suite"] not in suites or ((row["suite"], row["answer"]) not in fresh and _image(row) in images)
    ]  # fmt: skip
    together = [*kept, *rows]
    columns = dict.fromkeys(column for row in together for column in row)
    written = write_table(folder / SUITES, list(columns), together)
    add_to_run(folder, means_of(summaries(rows)), written, uri)
    return written


def means_of(found: Sequence[Summary]) -> dict[str, float]:
    """Return `suite/NAME/BLOCK/ANSWER/gain` in dB and `.../harm`, each the mean over the lines of a block."""
    groups: dict[str, list[Summary]] = {}
    for one in found:
        parts = (re.sub(r"[^\w. -]+", "_", part, flags=re.ASCII) for part in (one.suite, one.block, one.answer))
        groups.setdefault("/".join(("suite", *parts)), []).append(one)
    gains = {f"{name}/gain": fmean(one.gain.estimate for one in own) for name, own in groups.items()}
    return {**gains, **{f"{name}/harm": fmean(one.harm for one in own) for name, own in groups.items()}}


def kept_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of suites in the folder of a run, as texts. Empty if there are none."""
    file = folder / SUITES
    if not file.is_file():
        return []
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def leave_suites(comparison: Comparison, out: Path, device: str) -> list[Path]:
    """Score finished runs on `evaluation.suites`, with the adapters of `evaluation.adapt` that a run can be used with.

    What a run was scored on before is not scored again. Return the files that were written.
    """
    experiment, written = comparison.experiment, []
    for folder in [run.folder for run in comparison.runs if run.status == "finished"]:
        rows = []
        for adapt, suites in _missing(folder, experiment, out, device).items():
            rows += evaluate_suites(folder, experiment, suites, adapt=adapt, out=out, device=device)
        if rows:
            written.append(keep(folder, rows, comparison.tracking.uri))
    return written


def _missing(folder: Path, experiment: Experiment, out: Path, device: str) -> dict[tuple[str, ...], list[str]]:
    """Return adapters -> the suites that a run was not scored on with these adapters."""
    asked = experiment.evaluation
    known = {(row["suite"], row["answer"]) for row in kept_rows(folder)}
    lacking = {
        suite: [one for one in asked.adapt if (suite_name(suite), one) not in known and one not in CONTROLS]
        for suite in asked.suites
    }
    wanted = [one for one in asked.adapt if any(one in own for own in lacking.values())]
    able = usable_adapters(folder, experiment, wanted, out=out, device=device) if wanted else []
    jobs: dict[tuple[str, ...], list[str]] = {}
    for suite, own in lacking.items():
        adapt = tuple(one for one in own if one in able)
        if adapt or (suite_name(suite), NONE) not in known:
            jobs.setdefault(adapt, []).append(suite)
    return jobs


def _image(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells an image apart. The score of the degraded image tells whether it is still the same."""
    return (*(row[name] for name in IMAGE), float(row["psnr_input"]))
