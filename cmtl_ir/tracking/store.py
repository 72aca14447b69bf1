"""The tracking store: write a run, and read runs as frames. A run is first written to a journal in its folder.

One MLflow experiment (`cmtl-ir`) holds a parent run for each comparison and one run for each run hash; a run that
belongs to several comparisons has a tag `in.COMPARISON = label` for each.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmtl_ir.base.errors import brief
from cmtl_ir.tracking.journal import Delivery, Journal, TrackingError, check_name
from cmtl_ir.tracking.mlflow_store import (
    COMPARISON,
    EXPERIMENT,
    NOTE,
    PARENT,
    RUN,
    Images,
    MlflowStore,
    connect,
    points_of,
    shown,
    sqlite_file,
    sqlite_uri,
)
from cmtl_ir.tracking.tracker import RunTracker

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("cmtl_ir.tracking")

SYNCED = "name the store with --tracking-uri, or give the experiment's command again, which delivers everything"
"""Way out of a delivery that finds no usable store."""

__all__ = ["NOTE", "Images", "RunTracker", "Tracking", "TrackingError", "deliver", "local_uri", "read_runs"]


def local_uri(folder: Path) -> str:
    """Return the URI of the store in a folder of results."""
    return sqlite_uri(Path(folder).resolve() / "mlflow.db")


class Tracking:
    """A tracking store that connects when it is first used. It can be sent to other processes."""

    def __init__(self, uri: str | None, folder: Path) -> None:
        self.folder = Path(folder).resolve()
        self.uri = uri or local_uri(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tracking, (self.uri, self.folder)

    @cached_property
    def _store(self) -> MlflowStore:
        return MlflowStore(self.uri, self.folder)

    def parent(self, comparison: str, tags: Mapping[str, str], config_yaml: str) -> str:
        """Find or create the run of a comparison and return its id. `experiment.yaml` is its artifact."""
        try:
            check_name(comparison)
        except ValueError as error:
            raise TrackingError(str(error)) from None
        with self._store.alone():
            found = self._store.find({COMPARISON: comparison})
            run_id = found.info.run_id if found else self._store.create(comparison, {COMPARISON: comparison})
            self._store.describe(run_id, {}, tags)
            self._store.client.log_text(run_id, config_yaml, "experiment.yaml")
            if not found:
                self._store.set_status(run_id, "FINISHED")  # it only holds others: nothing runs in it
        return run_id

    def publish(self, run_id: str, files: Sequence[Path], folder: str = "") -> bool:
        """Add the tables and figures of a comparison to its run. Return False, with a warning, if the store fails."""
        try:
            for file in files:
                self._store.upload(run_id, file, folder)
        except Exception as error:  # a figure that is not delivered must not fail a finished comparison
            log.warning("%s did not take the figures (%s); they are in %s", shown(self.uri), brief(error), self.folder)
            return False
        return True

    def conclude(self, run_id: str, figures: Mapping[str, float], tags: Mapping[str, str], ended: bool) -> bool:
        """Add the figures of a comparison to its run. Return False, with a warning, if the store fails.

        `ended`: whether runs were trained just now, so that the comparison ends now.
        """
        try:
            self._store.conclude(run_id, figures, tags, ended)
        except Exception as error:  # as for `publish`
            log.warning("%s did not take the figures of the comparison (%s)", shown(self.uri), brief(error))
            return False
        return True

    def page(self) -> str:
        """Return the address of the list of runs in MLflow's pages, for a server that is given or started here."""
        server = self.uri.rstrip("/") if self.uri.startswith("http") else "http://127.0.0.1:5000"
        return f"{shown(server)}/#/experiments/{self._store.experiment_id}/runs?workflowType=machine_learning"

    def run(
        self, run_hash: str, *, name: str, parent: str, comparison: str, label: str,
        params: Mapping[str, Any], folder: Path, tags: Mapping[str, str] | None = None,
        images: Sequence[Images] = (),
    ) -> RunTracker:  # fmt: skip
        """Find or create the run of a hash as member `label` of a comparison. Its journal is in `folder`.

        `images`: data sets of a run that is created.
        """
        store, member = self._store, {f"in.{check_name(comparison)}": label}
        with store.alone():
            mark = Delivery.read(folder)
            run = store.get(mark.run_id) or store.find({RUN: run_hash})
            if run is not None and run.info.run_id != mark.run_id and run.data.metrics:
                store.replace(run)
                run = None  # trained elsewhere; this folder starts a new run
            run_id = run.info.run_id if run else store.create(name, {RUN: run_hash, PARENT: parent})
            if run:
                store.sweep(run)
            if run is None and images:
                store.use(run_id, images)
            known = run.data.params if run else {}
            store.describe(run_id, {k: v for k, v in params.items() if k not in known}, {**(tags or {}), **member})
        status = run.info.status if run else "RUNNING"
        return RunTracker(store, Path(folder), mark.moved_to(shown(self.uri), run_id), status)


def deliver(folder: Path, uri: str | None = None) -> int:
    """Deliver what is pending in a run's folder or in all folders below it. Return the number of runs delivered.

    `uri` is the store. `None` takes the one that each folder names, or its copy next to the folder if both were moved.
    """
    stores: dict[str, MlflowStore] = {}
    homes = [file.parent for file in sorted(Path(folder).rglob("delivery.json")) if _waits(file.parent)]
    for home in homes:
        mark = Delivery.read(home)
        if uri is None and "***" in mark.uri:
            raise TrackingError(f"{home}: name the store's URI; its password is not kept in files ({mark.uri})")
        address = uri or present_uri(mark, home)
        store = stores[address] = stores.get(address) or _store_at(address, home)
        with store.answering():
            if (run := store.get(mark.run_id)) is None:
                raise TrackingError(
                    f"{mark.uri} has no run {mark.run_id} any more: the experiment's command, given again, makes a new "
                    f"one and sends it what is in {home}"
                )
            mark.status = mark.due(home)
            RunTracker(store, home, mark.moved_to(shown(address), mark.run_id), run.info.status).deliver()
    return len(homes)


def add_to_run(home: Path, values: Mapping[str, float], file: Path, uri: str | None = None) -> bool:
    """Add values and a file to a run that has ended, and deliver them. `uri` as for `deliver`.

    The step is the last one of the run, or one more than that of the last values of these names. Return False, with a
    warning, if the store fails, and without one for a run that is in no store. The run's folder then holds everything.
    """
    mark, journal = Delivery.read(home), Journal(home)
    if not mark.run_id:
        return False
    journal.append(journal.next_step(values), values)
    mark.files[f"{file.relative_to(home).as_posix()}|"] = False
    mark.write(home)
    try:
        deliver(home, uri)
    except Exception as error:  # as for `publish`
        log.warning(
            "the tracking store did not take %s (%s); when it is back: cmtl-ir sync %s", file, brief(error), home
        )
        return False
    return True


def present_uri(mark: Delivery, home: Path) -> str:
    """Return the URI of the store that a run's folder names, or of the one in the folder of results that was moved."""
    recorded = sqlite_file(mark.uri)
    if recorded is None:
        return mark.uri
    beside = next(
        (one / MlflowStore.FILE for one in home.resolve().parents if (one / MlflowStore.FILE).is_file()), None
    )
    if beside is not None and beside != recorded and (not recorded.exists() or _knows(beside, mark.run_id)):
        return sqlite_uri(beside)
    return mark.uri


def _knows(database: Path, run_id: str) -> bool:
    return MlflowStore(sqlite_uri(database), database.parent, SYNCED).get(run_id) is not None


def _store_at(uri: str, home: Path) -> MlflowStore:
    """Return the store at a URI. Raise TrackingError if it is a file that does not exist; none is made."""
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise TrackingError(f"{home}: there is no tracking store {database} any more; {SYNCED}")
    return MlflowStore(uri, database.parent if database is not None else home, SYNCED)


def _waits(home: Path) -> bool:
    mark, journal = Delivery.read(home), home / "metrics.jsonl"
    size = journal.stat().st_size if journal.is_file() else 0
    return mark.arrived != size or bool(mark.waiting(home)) or mark.due(home) is not None


def read_runs(uri: str, comparison: str) -> dict[str, pd.DataFrame]:
    """The runs of a comparison as two tidy frames, joined by `run` (the run's hash).

    `runs`: run, run_id, name, label, status, start, end, then `params.*`, `tags.*` and last values `metrics.*`.
    `curves`: run, metric, step, value.
    """
    from cmtl_ir.tracking import frames

    if (file := sqlite_file(uri)) is not None and not file.exists():
        raise TrackingError(f"there is no tracking store {file}: run the experiment first, or name its store")
    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        found = frames.all_runs(client, experiment.experiment_id, f"in.{check_name(comparison)}") if experiment else []
        return {
            "runs": frames.runs_frame(found, comparison),
            "curves": frames.curves_frame(found, points_of(client, found)),
        }
    except Exception as error:
        raise TrackingError(f"the tracking store {shown(uri)} cannot be read ({brief(error)})") from error
