"""Runs as the tests of tracking log them, and a server to log to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from cmtl_ir.tracking import mlflow_store
from cmtl_ir.tracking.store import RunTracker, Tracking


def run_of(store: Tracking, run_hash: str = "abc", **changes: Any) -> RunTracker:
    fields: dict[str, Any] = {
        "name": "joint-seed0",
        "parent": "",
        "comparison": "quick",
        "label": "joint",
        "params": {"lr": 1e-3, "surgery": None},
        "folder": store.folder / "store" / run_hash,
    }
    return store.run(run_hash, **{**fields, "parent": store.parent("quick", {}, "a: 1\n"), **changes})


def history(store: Tracking, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Every point the store has, duplicates included."""
    client = store._store.client
    names = client.get_run(run_id).data.metrics
    return {name: sorted((m.step, m.value) for m in client.get_metric_history(run_id, name)) for name in sorted(names)}


def train(tracker: RunTracker, start: int, end: int) -> None:
    for step in range(start + 1, end + 1):
        tracker.log(step, {"loss/rain": 1.0 / step, "loss/haze": step / 3.0})


def entries(folder: Path) -> list[tuple[int, dict[str, float | None]]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(entry["step"], entry["metrics"]) for entry in map(json.loads, lines)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`mlflow server` on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", mlflow_store.sqlite_uri(self.folder / "mlflow.db")]
        command += ["--artifacts-destination", str(self.folder / "served")]
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        log.close()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
