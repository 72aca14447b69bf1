"""Locations of the files of a comparison's runs: folders, or a tracking store (which may be a copy)."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import write_whole
from cmtl_ir.store.folder import diverged_step, has_result
from cmtl_ir.store.layout import DIVERGED, EXPERIMENT, JOURNAL, RUNS, run_folder
from cmtl_ir.store.listing import has_list, listed_runs, stale_runs
from cmtl_ir.tracking import mlflow_store
from cmtl_ir.tracking import store as tracking
from cmtl_ir.tracking.artifacts import artifacts_of

if TYPE_CHECKING:
    import pandas as pd

FINISHED = "finished"
NOT_STARTED = "not started"
UNFINISHED = "unfinished"
DIVERGED_AT = "diverged at step "
"""Beginning of the status of a run whose loss became NaN or infinite."""


@dataclass(frozen=True)
class Member:
    """One run of a comparison. `file` returns the path of a file of the run by its name, or `None` if there is none."""

    run: str
    label: str
    seed: int
    status: str
    file: Callable[[str], Path | None]

    @property
    def finished(self) -> bool:
        """Whether the run has its scores."""
        return self.status == FINISHED


@dataclass(frozen=True)
class Source:
    """A comparison as found in a folder or a tracking store."""

    name: str
    where: str
    """Folder or URI of the comparison, for display."""
    members: tuple[Member, ...]
    """In the order of the experiment's strategies and seeds."""
    experiment: dict[str, Any]
    """The resolved experiment file. Empty if it was not stored."""
    command: str
    """Command that runs the experiment again. Finished runs are skipped."""
    logged: Callable[[], pd.DataFrame]
    """Returns the columns run, metric, step, value of everything that was logged."""
    stale: tuple[tuple[str, int], ...] = ()
    """(label, seed) of runs that were trained under another definition of their strategy. They are no members."""
    file: Callable[[str], Path | None] = lambda _: None
    """Returns the path of a file of the comparison itself by its name, or `None` if there is none."""


# ------------------------------------------------------------------------------------------------------ folders


def of_folder(folder: Path) -> Source:
    """Return the comparison in OUT/NAME, whose runs are in OUT/store. Raise UserError if there is none."""
    folder = Path(folder)
    if not has_list(folder):
        raise UserError(
            f"{folder} holds no comparison (no {RUNS}): `cmtl-ir run EXPERIMENT --out {folder.parent}` makes one"
        )
    rows = listed_runs(folder)
    members = tuple(member(row["label"], int(row["seed"]), run_folder(folder.parent, row["hash"])) for row in rows)
    file = folder / EXPERIMENT
    content = dict(yaml.read(file)) if file.is_file() else {}
    command = f"cmtl-ir run {file} --out {folder.parent}"
    stale = tuple((row["label"], int(row["seed"])) for row in stale_runs(folder))
    seeds = sorted({one.seed for one in members} | {seed for _, seed in stale} | set(content.get("seeds", [])))
    if content and seeds != sorted(content["seeds"]):  # a later call named only some of the seeds
        content["seeds"] = seeds
        command += f" --set 'seeds={seeds}'"

    def own(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    return Source(folder.name, str(folder), members, content, command, lambda: journals(members), stale, file=own)


def member(label: str, seed: int, home: Path) -> Member:
    """Return the run in a folder. The name of the folder is the hash of the run."""
    status = UNFINISHED if (home / JOURNAL).is_file() else NOT_STARTED
    if has_result(home):
        status = FINISHED
    elif (step := diverged_step(home)) is not None:
        status = f"{DIVERGED_AT}{step}"

    def file(name: str) -> Path | None:
        return home / name if (home / name).is_file() else None

    return Member(home.name, label, seed, status, file)


def journals(members: tuple[Member, ...]) -> pd.DataFrame:
    """Return a frame of run, metric, step, value of everything that these runs logged, finished or not."""
    import pandas as pd

    points = []
    for member in members:
        journal = member.file(JOURNAL)
        for line in journal.read_text().splitlines() if journal else ():
            try:
                entry = json.loads(line)
            except ValueError:  # the last line is incomplete if the process was killed
                continue
            points += [(member.run, name, entry["step"], value) for name, value in entry["metrics"].items()]
    frame = pd.DataFrame(points, columns=["run", "metric", "step", "value"])
    return frame.astype({"run": "str", "metric": "str", "step": "int64", "value": "float64"})


# ------------------------------------------------------------------------------------------------------- stores


def of_store(uri: str, comparison: str) -> Source:
    """Return the comparison of that name in a tracking store. Raise UserError with the known names if there is none."""
    read = tracking.read_runs(uri, comparison)
    client = mlflow_store.connect(uri)
    artifacts = _Artifacts(client, uri)
    if read["runs"].empty:
        known = ", ".join(artifacts.comparisons()) or "none"
        raise UserError(f"the store {mlflow_store.shown(uri)} has no comparison {comparison!r}; it has: {known}")
    parent = artifacts.parent(comparison)
    text = artifacts.file(parent, EXPERIMENT)
    content = dict(yaml.read(text)) if text else {}
    members = _ordered([_tracked(row, artifacts) for row in read["runs"].to_dict("records")], content)
    command = f"cmtl-ir run EXPERIMENT.yaml --tracking-uri {mlflow_store.shown(uri)}"
    where = mlflow_store.shown(uri)
    logged, file = lambda: read["curves"], lambda name: artifacts.file(parent, name)
    return Source(comparison, where, members, content, command, logged, file=file)


def _tracked(row: Mapping[Any, Any], artifacts: _Artifacts) -> Member:
    run_id, status = row["run_id"], FINISHED if row["status"] == "FINISHED" else UNFINISHED
    if row["status"] == "FAILED" and (file := artifacts.file(run_id, DIVERGED)) is not None:
        status = f"{DIVERGED_AT}{diverged_step(file.parent)}"
    seed = int(row.get("params.seed", 0))
    return Member(row["run"], row["label"], seed, status, lambda name: artifacts.file(run_id, name))


def _ordered(members: list[Member], experiment: dict[str, Any]) -> tuple[Member, ...]:
    """Sort members, given newest first, in the order of the experiment. Of one label and seed, the newest counts.

    Planned runs that the store lacks are added as `not started`.
    """
    planned = [(label, seed) for label in experiment.get("strategies", {}) for seed in experiment.get("seeds", [])]
    by_name = {(one.label, one.seed): one for one in reversed(members)}
    missing = {name: Member("", *name, NOT_STARTED, lambda _: None) for name in planned if name not in by_name}
    order = {name: place for place, name in enumerate(planned)}
    names = sorted({**by_name, **missing}, key=lambda name: (order.get(name, len(order)), name))
    return tuple((by_name | missing)[name] for name in names)


class _Artifacts:
    """Files of tracked runs. They are read in place if this machine can access them, or else downloaded once."""

    def __init__(self, client: Any, uri: str) -> None:
        self.client = client
        self._home = Path(tempfile.mkdtemp(prefix="cmtl-ir-report-"))
        weakref.finalize(self, shutil.rmtree, self._home, ignore_errors=True)  # deleted with the last reference
        self.experiment = client.get_experiment_by_name(mlflow_store.EXPERIMENT)
        location = self.experiment.artifact_location if self.experiment else ""
        self.root = _local_root(location, uri)
        self.moved = self.root is not None and self.root != _local_root(location, "")

    def file(self, run_id: str, name: str) -> Path | None:
        if not run_id:
            return None
        if self.root is not None:
            path = self.root / run_id / "artifacts" / name
            return path if path.is_file() else None
        path = self._home / run_id / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.client.download_artifacts(run_id, name, str(self._home / run_id))
            except Exception:  # MLflow passes on any error of its storage if the file is missing
                return None
        return path if path.is_file() else None

    def parent(self, comparison: str) -> str:
        """Return the id of the parent run of a comparison, or an empty text if there is none."""
        text = f"tags.`{mlflow_store.COMPARISON}` = '{comparison}'"
        found = self.client.search_runs([self.experiment.experiment_id], text, max_results=1)
        return found[0].info.run_id if found else ""

    def comparisons(self) -> list[str]:
        if self.experiment is None:
            return []
        text = f"tags.`{mlflow_store.COMPARISON}` LIKE '%'"
        found = self.client.search_runs([self.experiment.experiment_id], text, max_results=1000)
        return sorted({run.data.tags[mlflow_store.COMPARISON] for run in found})


def _local_root(location: str, uri: str) -> Path | None:
    """Return the folder of all artifacts, or `None` if it is not a local folder.

    For a copied store, it is the copy next to its database, not the original.
    """
    database = mlflow_store.sqlite_file(uri)
    parsed = urlparse(location)
    if parsed.scheme not in ("", "file"):
        return None
    root = Path(unquote(parsed.path))
    neighbour = database.parent / "mlartifacts" if database else root
    return neighbour if neighbour.is_dir() or not root.is_dir() else root


def log_files(uri: str, comparison: str, files: dict[str, list[Path]]) -> str:
    """Add files (folder -> files) to the artifacts of a comparison's parent run. Return where, or why not."""
    database = mlflow_store.sqlite_file(uri)
    if database is not None and (found := artifacts_of(database, comparison)) is not None:
        return _logged_here(uri, *found, files)
    try:
        client = mlflow_store.connect(uri)
        artifacts = _Artifacts(client, uri)
        run_id = artifacts.parent(comparison) if artifacts.experiment else ""
        if not run_id:
            return f"not logged: {mlflow_store.shown(uri)} does not know the comparison {comparison!r}"
        if artifacts.moved or (artifacts.root is not None and not (artifacts.root / run_id).is_dir()):
            return f"not logged: {mlflow_store.shown(uri)} is a copy, whose artifacts belong elsewhere"
        for folder, listed in files.items():
            for file in listed:
                client.log_artifact(run_id, str(file), folder)
    except Exception as error:  # the report is written even if it cannot be logged
        return f"not logged: {mlflow_store.shown(uri)} cannot be used ({type(error).__name__})"
    return f"logged to {mlflow_store.shown(uri)}, run {run_id}"


def _logged_here(uri: str, run_id: str, artifacts: Path, files: dict[str, list[Path]]) -> str:
    """Copy files (folder -> files) into a folder of artifacts. Return where, or why not."""
    try:
        for folder, listed in files.items():
            (artifacts / folder).mkdir(parents=True, exist_ok=True)
            for file in listed:
                write_whole(artifacts / folder / file.name, file.read_bytes())
    except OSError as error:
        return f"not logged: {artifacts} cannot be written ({error.strerror or error})"
    return f"logged to {mlflow_store.shown(uri)}, run {run_id}"
