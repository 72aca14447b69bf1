"""Lookup of finished runs by name, and of the comparisons that list them."""

from __future__ import annotations

from pathlib import Path

from cmtl_ir.base.errors import UserError
from cmtl_ir.store.folder import read_identity
from cmtl_ir.store.layout import EXPERIMENT, GROUPS, RESULT, STORE, WEIGHTS, run_folder
from cmtl_ir.store.listing import comparisons

NETWORK = (WEIGHTS, GROUPS)
"""Files of a finished run that its network, or the networks of its groups, are loaded from."""
MARKS = (*NETWORK, RESULT)
"""Files that mark the folder of a finished run."""


def find_run(name: str | Path, out: str | Path = "runs") -> Path:
    """Return the folder of a finished run, named by path, hash (or its beginning), or COMPARISON/LABEL[/SEED].

    Raises UserError, with a list of the existing or matching runs, if none or several match, or if the run has lost its
    network.
    """
    path, store = Path(name), Path(out) / STORE
    if any((path / mark).is_file() for mark in MARKS):
        return _with_network(path)
    finished = {one.parent.name: one.parent for mark in MARKS for one in sorted(store.glob(f"*/{mark}"))}
    finished = {
        hash_: folder for hash_, folder in finished.items() if "." not in hash_
    }  # without runs that were set aside
    by_label = {label: store / hash_ for label, hash_ in _labels(Path(out)).items() if hash_ in finished}
    found = {str(folder): folder for key, folder in finished.items() if key.startswith(str(name))}
    found |= {str(f): f for label, f in by_label.items() if label == str(name) or label.rpartition("/")[0] == str(name)}
    if len(found) == 1:
        return _with_network(next(iter(found.values())))
    if found:
        matching = sorted(label for label, folder in by_label.items() if str(folder) in found) or sorted(found)
        raise UserError(f"several runs match {str(name)!r} in {out}: {', '.join(matching)}; name one of them")
    known = ", ".join(sorted(by_label) or sorted(finished)) or "none yet"
    raise UserError(f"no finished run {str(name)!r} in {out}; finished: {known}")


def _with_network(run: Path) -> Path:
    if not any((run / file).is_file() for file in NETWORK):
        raise UserError(
            f"{run} is finished, but {WEIGHTS} is missing: copy it from a backup, or give the command of its "
            "experiment again, which makes it again"
        )
    return run


def find_seeds(name: str | Path, out: str | Path = "runs") -> dict[int, Path]:
    """Return seed -> folder of the finished runs of COMPARISON/LABEL, or of the one run that `find_run` finds.

    Raises UserError as `find_run` does.
    """
    at, _, label = str(name).rpartition("/")
    rows = [
        row for folder, rows in comparisons(Path(out)) if folder.name == at for row in rows if row["label"] == label
    ]
    named = [run_folder(Path(out), row["hash"]) for row in rows]
    finished = [folder for folder in named if any((folder / mark).is_file() for mark in MARKS)]
    return {int(read_identity(folder).get("seed", 0)): folder for folder in finished or [find_run(name, out)]}


def references_of(run: Path, out: Path) -> dict[str, Path]:
    """Return task -> folder of the finished single-task run with the seed of a run, of a comparison that lists both."""
    found: dict[str, Path] = {}
    for _, rows in comparisons(out):
        seeds = [row["seed"] for row in rows if row["hash"] == run.name]
        for row in rows:
            folder = run_folder(out, row["hash"])
            if row["seed"] in seeds and folder.name != run.name and (folder / WEIGHTS).is_file():
                curriculum = read_identity(folder).get("strategy", {}).get("curriculum") or {}
                if curriculum.get("name") == "single":
                    found.setdefault(curriculum["task"], folder)
    return found


def _labels(out: Path) -> dict[str, str]:
    return {f"{at.name}/{row['label']}/{row['seed']}": row["hash"] for at, rows in comparisons(out) for row in rows}


def experiment_of(run: Path, out: str | Path = "runs") -> Path:
    """Return the experiment file of a comparison that lists this run. Raise UserError if there is none."""
    for folder, rows in comparisons(Path(out)):
        if any(row["hash"] == run.name for row in rows):
            return folder / EXPERIMENT
    raise UserError(f"no comparison in {out} lists the run {run}; name its experiment with --file")
