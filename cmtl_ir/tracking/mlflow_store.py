"""All calls of MLflow. This is the only module that imports MLflow, and it does so when a store is first used."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from cmtl_ir.base.errors import UserError, brief
from cmtl_ir.tracking import moved
from cmtl_ir.tracking.journal import Point, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "cmtl-ir"
RUN, COMPARISON, REPLACED = "cmtl_ir.run", "cmtl_ir.comparison", "cmtl_ir.replaced"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of the experiment by which MLflow's pages open its list of runs. Without it they ask what the experiment is."""
UPLOADING = ".artifact.uploading."
"""Prefix of MLflow's temporary files in artifact folders."""
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's 7 retries block for 4 minutes if the server is down
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True)
class Images:
    """Images that a run trains or is tested on, as a data set in MLflow."""

    name: str
    use: str
    """training, validation or test."""
    digest: str
    count: int
    source: str
    """Where the images come from, as JSON."""


def shown(uri: str) -> str:
    """Return a URI without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)


class MlflowStore:
    """The calls that writing a run needs."""

    FILE = "mlflow.db"
    """Name of the database in a folder of results."""

    def __init__(self, uri: str, folder: Path, way_out: str | None = None) -> None:
        """`folder` is that of the results. `way_out` ends error messages; `None` is for commands that train."""
        self.uri, self.folder, self.way_out = uri, folder, way_out
        self.database = sqlite_file(uri)
        self.own = self.database == folder / self.FILE
        place = self.database.parent if self.database else folder
        with self.answering():
            place.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(place / ".tracking.lock", timeout=300)
            with self._lock:
                self.client = connect(uri, own=self.own)
                self.experiment_id = self._experiment()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise TrackingError with the way out for whatever an unusable store raises."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise TrackingError(
                f"the tracking store {shown(self.uri)} cannot be used ({brief(error)}). {self._way_out(error)}"
            ) from error

    def _way_out(self, error: Exception) -> str:
        if "is full" in str(error) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return "Free some space there, and give the same command again"
        if self.way_out is not None:
            return self.way_out
        if self.own:
            return (
                f"Make it usable, or move it away (mv {self.database} {self.database}.damaged): the same command then "
                "makes a new store and fills it from the folders of the runs. --tracking-uri names another store"
            )
        way = "Start its server" if self.uri.startswith("http") else "Name a database or a server"
        local = shown(sqlite_uri(self.folder / self.FILE))
        return f"{way}, or give --offline: the runs then go to a local store, {local}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the store against other processes, because finding and creating a run are two steps."""
        with self.answering(), self._lock:
            yield

    def _experiment(self) -> str:
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment.experiment_id)
            if self.own:
                moved.follow_artifacts(self.client, experiment.artifact_location, self.folder / "mlartifacts")
            return experiment.experiment_id
        own = None if self.uri.startswith("http") else (self.folder / "mlartifacts").as_uri()
        try:
            return self.client.create_experiment(EXPERIMENT, artifact_location=own, tags=KIND)
        except Exception:  # another machine was faster
            experiment = self.client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
            return experiment.experiment_id

    # ------------------------------------------------------------------------------------- runs and their names

    def get(self, run_id: str) -> Run | None:
        """Return a run, or `None` if it was deleted."""
        if not run_id:
            return None
        try:
            run = self.client.get_run(run_id)
        except Exception as error:
            if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def find(self, tags: Mapping[str, str]) -> Run | None:
        """Return the newest run with these tags, or `None` if there is none."""
        text = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_runs(
            [self.experiment_id], text, max_results=1, order_by=["attributes.start_time DESC"]
        )
        return found[0] if found else None

    def members(self, comparison: str) -> list[Run]:
        """Return the runs that belong to a comparison."""
        return list(self.client.search_runs([self.experiment_id], f"tags.`in.{comparison}` LIKE '%'", max_results=5000))

    def create(self, name: str, tags: Mapping[str, str], begun: int) -> str:
        """Create a run that began at a time in milliseconds since 1970, and return its id."""
        return self.client.create_run(self.experiment_id, begun, dict(tags), name).info.run_id

    def replace(self, run: Run) -> None:
        """Remove a run from its comparisons. It keeps its curves and tags that say which run it was."""
        for key in run.data.tags:
            if key == RUN or key.startswith("in."):
                self.client.delete_tag(run.info.run_id, key)
        self.client.set_tag(run.info.run_id, REPLACED, run.data.tags.get(RUN, ""))

    def describe(self, run_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Add parameters and tags to a run."""
        from mlflow.entities import Param, RunTag

        named = [Param(key, str(value)[:6000]) for key, value in params.items()]
        labels = [RunTag(key, str(value)[:5000]) for key, value in tags.items()]
        for start in range(0, max(len(named), len(labels)), 100):
            end = start + 100
            self.client.log_batch(run_id, params=named[start:end], tags=labels[start:end])

    def use(self, run_id: str, images: Sequence[Images]) -> None:
        """Log data sets as the inputs of a run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(one.name, one.digest[:36], "local", one.source, profile=json.dumps({"images": one.count})),
                [InputTag("mlflow.data.context", one.use)],
            )
            for one in images
        ]
        self.client.log_inputs(run_id, datasets=inputs)

    def conclude(self, run_id: str, figures: Mapping[str, float], tags: Mapping[str, str], ended: bool) -> None:
        """Add figures and tags to the run of a comparison. If `ended`, its end is now, which gives its duration."""
        now = time.time_ns() // 1_000_000
        self.send(run_id, [Point(name, value, now, 0) for name, value in figures.items()])
        self.describe(run_id, {}, tags)
        if ended:
            self.set_status(run_id, "FINISHED")

    # ------------------------------------------------------------------------------------- what a tracker asks

    def send(self, run_id: str, points: Sequence[Point]) -> None:
        """Add points. The store identifies a point by name, step, time and value, and stores it once."""
        from mlflow.entities import Metric

        self.client.log_batch(run_id, metrics=[Metric(*point) for point in points])

    def latest(self, run_id: str) -> dict[str, int]:
        """Return the latest step of each metric."""
        return {metric.key: metric.step for metric in self.client.get_run(run_id).data._metric_objs}

    def steps(self, run_id: str, name: str) -> set[int]:
        """Return all steps of a metric."""
        return {metric.step for metric in self.client.get_metric_history(run_id, name)}

    def upload(self, run_id: str, file: Path, folder: str) -> None:
        """Add a file to the artifacts of a run."""
        self.client.log_artifact(run_id, str(file), folder or None)

    def sweep(self, run: Run) -> None:
        """Remove the halves of uploads that killed processes left among a run's artifacts, where these are files here.

        An upload that is under way in another process fails by that, and is made again.
        """
        uri = run.info.artifact_uri or ""
        if not uri or ("://" in uri and not uri.startswith("file:")):
            return
        from mlflow.utils.file_utils import local_file_uri_to_path

        for leftover in Path(local_file_uri_to_path(uri)).rglob(f"{UPLOADING}*"):
            with suppress(OSError):
                leftover.unlink()

    def set_status(self, run_id: str, status: str) -> None:
        """Set the status of a run: RUNNING, FINISHED, FAILED or KILLED."""
        if status == "RUNNING":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status)


# ---------------------------------------------------------------------------------------------- connecting and reading


def connect(uri: str, own: bool = False) -> MlflowClient:
    """Return a client whose store answers.

    A missing sqlite store is created. If `own`, a store of an older version of MLflow is upgraded.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # read when MLflow is imported
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints what it also raises
    file = sqlite_file(uri)
    if file is not None and (not file.exists() or file.stat().st_size == 0):
        _make_database(file)
    if file is not None:
        moved.check_database(file)
    elif not uri.startswith("http"):
        _do_not_wait_for_minutes()
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        if not own or file is None or "out-of-date" not in str(error):
            raise
        _upgrade(file, uri)
        client = MlflowClient(uri)
    return client


def _do_not_wait_for_minutes() -> None:
    """Let MLflow try a database server 4 times, which takes a second, instead of 10 times, which takes 100 s."""
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 4


def sqlite_uri(file: Path) -> str:
    """Return the URI of a database file. Any path is allowed."""
    path = file.resolve().as_posix()
    if not set("%?") & set(path):
        return f"sqlite:///{path}"
    import sqlalchemy

    return sqlalchemy.URL.create("sqlite", database=path).render_as_string()


def sqlite_file(uri: str) -> Path | None:
    """Return the database file of a sqlite URI, or `None` for other URIs."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", uri)
    if not match or match[1] == ":memory:":
        return None
    if "%" not in uri:
        return Path(match[1]).resolve()
    import sqlalchemy

    return Path(sqlalchemy.make_url(uri).database or "").resolve()


def _make_database(file: Path) -> None:
    """Run the migrations of MLflow on a temporary file and rename it, so that a kill leaves no incomplete store."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = file.with_name(f".{file.name}.making")
    temporary.unlink(missing_ok=True)
    temporary.touch()  # fails at once where MLflow would try for 100 s
    store = SqlAlchemyStore(sqlite_uri(temporary), (file.parent / "mlartifacts").as_uri())
    store.engine.dispose()
    temporary.replace(file)


def _upgrade(file: Path, uri: str) -> None:
    import sqlalchemy
    from mlflow.store.db.utils import _upgrade_db

    shutil.copy2(file, file.with_name(f"{file.name}.before-{time.strftime('%Y%m%d-%H%M%S')}"))
    engine = sqlalchemy.create_engine(uri)
    _upgrade_db(engine)
    engine.dispose()


def points_of(client: MlflowClient, runs: Sequence[Run]) -> Iterator[tuple[str, str, int, float]]:
    """Yield (run id, metric, step, value) of all points, by one query or by one call per metric (and run)."""
    from mlflow.utils.rest_utils import http_request

    from cmtl_ir.tracking import frames

    store = client._tracking_client.store
    if hasattr(store, "engine"):
        return frames.points_by_sql(store.engine, runs)

    def bulk(name: str, run_ids: list[str]) -> list[dict[str, Any]]:
        response = http_request(
            store.get_host_creds(), "/ajax-api/2.0/mlflow/metrics/get-history-bulk", "GET",
            params={"run_id": run_ids, "metric_key": name, "max_results": frames.MOST},
        )  # fmt: skip
        response.raise_for_status()
        return response.json()["metrics"]

    return frames.points_by_metric(client, runs, bulk)
