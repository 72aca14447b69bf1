"""Seconds from a large tracking store to frames: 10,000 runs, of which a comparison's have long histories.

python -m tests.benchmarks.frames [--runs 10000] [--compared 100] [--points 1000]
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.tracking import mlflow_store, store
from cmtl_ir.tracking.store import Tracking

METRICS = [f"{kind}/{task}" for kind in ("loss", "weight", "psnr") for task in ("noise", "rain", "haze")] + ["lr"]


def fill(database: Path, experiment: int, runs: int, compared: int, points: int) -> None:
    """Runs straight into MLflow's tables: its client takes milliseconds a call, which is not what is measured here."""
    connection = sqlite3.connect(database)
    head = (
        "INSERT INTO runs (run_uuid, name, source_type, status, start_time, end_time, lifecycle_stage, artifact_uri, "
    )
    head += "experiment_id, user_id) VALUES (?, ?, 'LOCAL', 'FINISHED', ?, ?, 'active', '', ?, '')"
    metric = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)"
    latest = "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)"
    for number in range(runs):
        run, mine = f"{number:032x}", number < compared
        connection.execute(head, (run, f"run{number}", number, number + 1, experiment))
        tags = {"cmtl_ir.run": run[-16:], f"in.{'mine' if mine else f'other{number % 100}'}": f"strategy{number}"}
        connection.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(k, v, run) for k, v in tags.items()])
        connection.execute("INSERT INTO params VALUES ('seed', '0', ?)", (run,))
        history = range(points if mine else 10)
        rows = [(name, 0.5, step, run, step) for name in METRICS for step in history]
        connection.executemany(metric, rows)
        connection.executemany(latest, [(name, 0.5, history[-1], history[-1], run) for name in METRICS])
    connection.commit()
    connection.close()


def main() -> None:
    """Print what each step took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 10_000), ("compared", 100), ("points", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "mlflow.db"
        uri = mlflow_store.sqlite_uri(database)
        Tracking(uri, Path(folder)).parent("mine", {}, "name: mine")
        experiment = mlflow_store.connect(uri).get_experiment_by_name(mlflow_store.EXPERIMENT)
        fill(database, int(experiment.experiment_id), given.runs, given.compared, given.points)
        print(f"{given.runs:,} runs, {database.stat().st_size / 1e6:,.0f} MB")
        with statements() as sent, timed() as took:
            read = store.read_runs(uri, "mine")
        print(
            f"read_runs: {len(read['runs']):,} runs, {len(read['curves']):,} points: {took()}, {len(sent)} statements"
        )
        with statements() as sent, timed() as took:
            frames = Frames.of_store(uri, "mine")
            rows = len(frames.logged)
        print(f"Frames.of_store: {rows:,} rows logged: {took()}, {len(sent)} statements")


@contextmanager
def timed() -> Iterator[Callable[[], str]]:
    """Gives a function that says how long the block took."""
    wall, processor = time.perf_counter(), time.process_time()
    found: list[float] = []
    yield lambda: f"{found[0]:.1f} s ({found[1]:.1f} s of processor time)"
    found += [time.perf_counter() - wall, time.process_time() - processor]


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL statements that are sent meanwhile: few, whatever the number of runs."""
    import sqlalchemy

    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", note)


if __name__ == "__main__":
    main()
