"""Tidy frames of the runs in a tracking store, read with as few calls as the store allows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

MOST = 25_000
"""Largest number of points in one answer of an MLflow server."""
RUNS_AT_ONCE = 100

PointRow = tuple[str, str, int, float]
"""(run id, metric, step, value)."""
Bulk = Callable[[str, list[str]], list[dict[str, Any]]]
"""(metric, run ids) -> points of the metric in these runs."""

HEAD = ["run", "run_id", "name", "label", "status", "start", "end"]


def all_runs(client: Any, experiment_id: str, tag: str) -> list[Any]:
    """Return the runs with a tag, newest first. Of several runs with one hash, only the newest is returned."""
    found: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], f"tags.`{tag}` LIKE '%'", max_results=1000, page_token=token,
            order_by=["attributes.start_time DESC"],
        )  # fmt: skip
        for run in page:
            found.setdefault(run_hash(run), run)
        token = page.token
        if not token:
            return list(found.values())


def run_hash(run: Any) -> str:
    """Return the hash of a run."""
    return run.data.tags.get("cmtl_ir.run", run.info.run_id)


def runs_frame(runs: Iterable[Any], comparison: str) -> pd.DataFrame:
    """Return a frame with one row per run."""
    rows = []
    for run in runs:
        info, data = run.info, run.data
        head = (run_hash(run), info.run_id, info.run_name, data.tags.get(f"in.{comparison}"), info.status)
        times = (pd.to_datetime(stamp, unit="ms", utc=True) for stamp in (info.start_time, info.end_time))
        rows.append(dict(zip(HEAD, (*head, *times), strict=True)))
        for kind in ("params", "tags", "metrics"):
            rows[-1] |= {f"{kind}.{key}": value for key, value in sorted(getattr(data, kind).items())}
    return pd.DataFrame(rows, columns=None if rows else HEAD)


def curves_frame(runs: Sequence[Any], points: Iterable[PointRow]) -> pd.DataFrame:
    """Return one row per point (run, metric, step, value), ordered by run, metric and step, with one value per step."""
    frame = pd.DataFrame(points, columns=["run", "metric", "step", "value"])
    frame["run"] = frame["run"].map({run.info.run_id: run_hash(run) for run in runs})
    frame = frame.astype({"run": "str", "metric": "str", "step": "int64", "value": "float64"})
    frame = frame.drop_duplicates(["run", "metric", "step"], keep="last")
    return frame.sort_values(["run", "metric", "step"], ignore_index=True)


def points_by_sql(engine: Any, runs: Sequence[Any]) -> Iterator[PointRow]:
    """Yield all points, with one query per 100 runs."""
    import sqlalchemy

    query = sqlalchemy.text(
        "SELECT run_uuid, key, step, value, is_nan FROM metrics WHERE run_uuid IN :ids ORDER BY timestamp"
    ).bindparams(sqlalchemy.bindparam("ids", expanding=True))
    with engine.connect() as connection:
        for start in range(0, len(runs), RUNS_AT_ONCE):
            ids = [run.info.run_id for run in runs[start : start + RUNS_AT_ONCE]]
            for run_id, name, step, value, is_nan in connection.execute(query, {"ids": ids}):
                yield run_id, name, step, math.nan if is_nan else value


def points_by_metric(client: Any, runs: Sequence[Any], bulk: Bulk) -> Iterator[PointRow]:
    """Yield all points, with one call per metric and 100 runs, or per metric and run if the server lacks that call."""
    for name in sorted({name for run in runs for name in run.data.metrics}):
        ids = [run.info.run_id for run in runs if name in run.data.metrics]
        for start in range(0, len(ids), RUNS_AT_ONCE):
            some = ids[start : start + RUNS_AT_ONCE]
            points = _bulk_or_none(bulk, name, some)
            if points is not None:
                yield from ((p["run_id"], name, int(p["step"]), float(p["value"])) for p in points)
                continue
            for run_id in some:
                yield from ((run_id, name, m.step, m.value) for m in client.get_metric_history(run_id, name))


def _bulk_or_none(bulk: Bulk, name: str, run_ids: list[str]) -> list[dict[str, Any]] | None:
    """Return the answer of a bulk call, or `None` if the server lacks the call or cuts off its answer."""
    try:
        points = bulk(name, run_ids)
    except Exception as error:
        logging.getLogger("cmtl_ir.tracking").debug("no bulk history: %s", error)
        return None
    return points if len(points) < MOST else None
