"""The tracking store: write a run, and read runs as frames. A run is first written to a journal in its folder.

One MLflow experiment (`cmtl-ir`) holds a parent run for each comparison and one run for each run hash; a run that
belongs to several comparisons has a tag `in.COMPARISON = label` for each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmtl_ir.base.errors import brief
from cmtl_ir.tracking import readiness
from cmtl_ir.tracking.deferred import Announced, DeferredTracker
from cmtl_ir.tracking.journal import Delivery, Journal, TrackingError, check_name
from cmtl_ir.tracking.member import Member
from cmtl_ir.tracking.mlflow_store import (
    COMPARISON,
    EXPERIMENT,
    NOTE,
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

LATER = "comparison:"
"""Begins a parent that is not found or created yet. The name of its comparison follows."""
SYNCED = "name the store with --tracking-uri, or give the experiment's command again, which delivers everything"
"""Way out of a delivery that finds no usable store."""

__all__ = ["NOTE", "Images", "RunTracker", "Tracking", "TrackingError", "deliver", "local_uri", "read_runs"]


def local_uri(folder: Path) -> str:
    """Return the URI of the store in a folder of results."""
    return sqlite_uri(Path(folder).resolve() / "mlflow.db")


@dataclass(frozen=True)
class _Described:
    """What the store is told of a comparison."""

    tags: Mapping[str, str]
    config_yaml: str | None
    """The experiment. `None` in a process that knows the comparison by its name only."""
    begun: int
    """Milliseconds since 1970."""


class Tracking:
    """A tracking store that connects when it is first used. It can be sent to other processes."""

    def __init__(self, uri: str | None, folder: Path) -> None:
        self.folder = Path(folder).resolve()
        self.uri = uri or local_uri(folder)
        self._opening, self._settling = threading.Lock(), threading.Lock()
        self._later: dict[str, _Described] = {}
        """Comparisons whose runs are found or created when the store is opened."""
        self._ids: dict[str, str] = {}
        """Runs of those comparisons, once they are known."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Tracking, (self.uri, self.folder)

    @cached_property
    def _store(self) -> MlflowStore:
        with self._opening:  # a tracker may open it in the background
            if "_store" not in vars(self):
                vars(self)["_store"] = MlflowStore(self.uri, self.folder)
            return vars(self)["_store"]

    def parent(self, comparison: str, tags: Mapping[str, str], config_yaml: str) -> str:
        """Find or create the run of a comparison and return its id. `experiment.yaml` is its artifact."""
        return self._find_or_create(_checked(comparison), _Described(tags, config_yaml, _now()))

    def parent_later(self, comparison: str, tags: Mapping[str, str], config_yaml: str) -> str:
        """Return a parent that `run`, `publish`, `conclude` and `settled` take, without waiting for MLflow.

        The run of the comparison is found or created when the store is opened. If the store is not a database that is
        ready to be written, it is opened here, as by `parent`, which raises what is wrong with it.
        """
        if not self._is_deferrable():
            return self.parent(comparison, tags, config_yaml)
        self._later[_checked(comparison)] = _Described(tags, config_yaml, _now())
        return f"{LATER}{comparison}"

    def _is_deferrable(self) -> bool:
        database = sqlite_file(self.uri)
        return "_store" not in vars(self) and database is not None and readiness.is_ready(database)

    def settled(self, parent: str) -> str:
        """Return the id of a parent. A run that is to be found or created later is found or created now."""
        comparison = parent.removeprefix(LATER)
        if comparison == parent:
            return parent
        with self._settling:
            if comparison not in self._ids:
                described = self._later.get(comparison, _Described({}, None, _now()))
                self._ids[comparison] = self._find_or_create(comparison, described)
            return self._ids[comparison]

    def _find_or_create(self, comparison: str, described: _Described) -> str:
        store = self._store
        with store.alone():
            found = store.find({COMPARISON: comparison})
            run_id = found.info.run_id if found else store.create(comparison, {COMPARISON: comparison}, described.begun)
            store.describe(run_id, {}, described.tags)
            if described.config_yaml is not None:
                store.client.log_text(run_id, described.config_yaml, "experiment.yaml")
            if not found:
                store.set_status(run_id, "FINISHED")  # it only holds others: nothing runs in it
        return run_id

    def publish(self, parent: str, files: Sequence[Path], folder: str = "") -> bool:
        """Add the tables and figures of a comparison to its run. Return False, with a warning, if the store fails."""
        try:
            run_id = self.settled(parent)
            for file in files:
                self._store.upload(run_id, file, folder)
        except Exception as error:  # a figure that is not delivered must not fail a finished comparison
            log.warning("%s did not take the figures (%s); they are in %s", shown(self.uri), brief(error), self.folder)
            return False
        return True

    def conclude(self, parent: str, figures: Mapping[str, float], tags: Mapping[str, str], ended: bool) -> bool:
        """Add the figures of a comparison to its run. Return False, with a warning, if the store fails.

        `ended`: whether runs were trained just now, so that the comparison ends now.
        """
        try:
            self._store.conclude(self.settled(parent), figures, tags, ended)
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

        With a parent of `parent_later`, this is done with the first delivery if the store is not open yet. `images`:
        data sets of a run that is created.
        """
        joined = {**(tags or {}), f"in.{check_name(comparison)}": label}
        member = Member(run_hash, name, params, joined, images, _now())

        def announce(known_as: str) -> Announced:
            return member.announced(self._store, self.settled(parent), known_as)

        folder, mark = Path(folder), Delivery.read(folder)
        if parent.startswith(LATER) and mark.uri in ("", shown(self.uri)) and self._is_deferrable():
            return DeferredTracker(announce, folder, mark, shown(self.uri))
        store, run_id, status = announce(mark.run_id)
        return RunTracker(store, folder, mark.moved_to(shown(self.uri), run_id), status)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _checked(comparison: str) -> str:
    try:
        return check_name(comparison)
    except ValueError as error:
        raise TrackingError(str(error)) from None


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
                lost = f"no run {mark.run_id} any more" if mark.run_id else f"no run of {home} yet"
                raise TrackingError(
                    f"{mark.uri} has {lost}: the experiment's command, given again, makes a new one and sends it what "
                    f"is in {home}"
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
