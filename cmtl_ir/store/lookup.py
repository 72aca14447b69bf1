"""Finished runs by name, and the comparisons that list them."""

from __future__ import annotations

from pathlib import Path

from cmtl_ir.base.errors import UserError
from cmtl_ir.store.layout import EXPERIMENT, GROUPS, STORE, WEIGHTS
from cmtl_ir.store.listing import comparisons

MARKS = (WEIGHTS, GROUPS)
"""What makes a folder that of a finished run, of one model or of a grouping's."""


def find_run(name: str | Path, out: str | Path = "runs") -> Path:
    """The folder of a finished run: a path, its hash (or the start of it), or COMPARISON/LABEL[/SEED].

    Raises UserError listing the runs there are.
    """
    path, store = Path(name), Path(out) / STORE
    if any((path / mark).is_file() for mark in MARKS):
        return path
    finished = {one.parent.name: one.parent for mark in MARKS for one in sorted(store.glob(f"*/{mark}"))}
    finished = {hash_: folder for hash_, folder in finished.items() if "." not in hash_}  # not those set aside
    by_label = {label: store / hash_ for label, hash_ in _labels(Path(out)).items() if hash_ in finished}
    found = {str(folder): folder for key, folder in finished.items() if key.startswith(str(name))}
    found |= {str(f): f for label, f in by_label.items() if label == str(name) or label.rpartition("/")[0] == str(name)}
    if len(found) == 1:
        return next(iter(found.values()))
    known = ", ".join(sorted(by_label) or sorted(finished)) or "none yet"
    raise UserError(f"{'several runs match' if found else 'no finished run'} {str(name)!r} in {out}; finished: {known}")


def _labels(out: Path) -> dict[str, str]:
    return {f"{at.name}/{row['label']}/{row['seed']}": row["hash"] for at, rows in comparisons(out) for row in rows}


def experiment_of(run: Path, out: str | Path = "runs") -> Path:
    """The resolved experiment file of a comparison that this run belongs to. Raises UserError."""
    for folder, rows in comparisons(Path(out)):
        if any(row["hash"] == run.name for row in rows):
            return folder / EXPERIMENT
    raise UserError(f"no comparison in {out} lists the run {run}; name its experiment with --file")
