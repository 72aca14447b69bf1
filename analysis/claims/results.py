"""Stored results of a study: a CSV file with one row per run, task and measure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import write_whole


@dataclass(frozen=True)
class Row:
    """One number of one run."""

    label: str
    """Strategy, unlearning method, or `original` for the run that was to forget."""
    seed: int
    run: str
    """Hash of the run."""
    task: str
    """Task, pair of tasks, or other strategy that the number is about. Empty for the run as a whole."""
    measure: str
    """Such as psnr, psnr_input, forgetting or corrected_cosine."""
    value: float


COLUMNS = list(Row.__dataclass_fields__)
Key = tuple[str, str]
"""(label, measure)."""


class Results:
    """The numbers of one study, by label, measure, seed and task."""

    def __init__(self, rows: Iterable[Row], where: str = "") -> None:
        """Raise UserError if a number is given twice. `where` is the file, for messages."""
        self.by_key: dict[Key, dict[int, dict[str, float]]] = {}
        for row in rows:
            own = self.by_key.setdefault((row.label, row.measure), {}).setdefault(row.seed, {})
            if row.task in own:
                raise UserError(f"{where}: two values of {row.measure} for {row.label}, seed {row.seed}, {row.task!r}")
            own[row.task] = row.value

    @classmethod
    def read(cls, file: Path) -> Results:
        """Read a CSV file. Raise UserError with the line if it is malformed."""
        with file.open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened)
            if reader.fieldnames != COLUMNS:
                raise UserError(f"{file}: expected the columns {', '.join(COLUMNS)}, found {reader.fieldnames}")
            return cls([_row(file, number, row) for number, row in enumerate(reader, start=2)], str(file))

    def labels(self, measure: str) -> list[str]:
        """Return the labels that have a measure."""
        return [label for label, known in self.by_key if known == measure]

    def tasks(self, measure: str) -> list[str]:
        """Return the tasks of a measure in the order of the alphabet."""
        return sorted(
            {task for key, seeds in self.by_key.items() if key[1] == measure for own in seeds.values() for task in own}
        )

    def means(self, label: str, measure: str, tasks: Sequence[str] | None) -> dict[int, float]:
        """Return seed -> mean over tasks, of seeds that have all of them. `tasks=None` takes all that any seed has."""
        found = self.by_key.get((label, measure), {})
        wanted = list(tasks) if tasks is not None else sorted({task for own in found.values() for task in own})
        whole = {seed: [own[task] for task in wanted] for seed, own in found.items() if all(t in own for t in wanted)}
        return {seed: sum(values) / len(values) for seed, values in whole.items()}


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """Return ours - theirs of each seed that both have, in the order of the seeds."""
    return [ours[seed] - theirs[seed] for seed in sorted(set(ours) & set(theirs))]


def write(file: Path, rows: Sequence[Row]) -> Path:
    """Write rows to a CSV file, sorted, so that the file does not depend on the order of the runs."""
    ordered = sorted(rows, key=lambda row: (row.label, row.seed, row.measure, row.task))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in ordered)
    file.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(file, text.getvalue())


def _row(file: Path, number: int, row: Mapping[str, str]) -> Row:
    try:
        value, seed = float(row["value"]), int(row["seed"])
    except (TypeError, ValueError):
        raise UserError(f"{file}, line {number}: expected numbers as seed and value, found {dict(row)}") from None
    if not math.isfinite(value):
        raise UserError(f"{file}, line {number}: the value is {row['value']}; leave out what was not measurable")
    return Row(row["label"], seed, row["run"], row["task"], row["measure"], value)
