"""What all tests share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from cmtl_ir.tracking import mlflow_store
from tests.tracking.cases import Server

if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup; the tests of signals start from the usual state
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed images go to a folder of the test session, never to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CMTL_IR_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def making(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], None]]:
    """MLflow's migrations take seconds: this process makes them once, and every further database is a copy.

    Gives the true function, for tests that are about it; other processes make their own anyway.
    """
    true, first = mlflow_store._make_database, tmp_path_factory.mktemp("database") / "mlflow.db"

    def copied(file: Path) -> None:
        if not first.exists():
            true(first)
        shutil.copy(first, file)

    mlflow_store._make_database = copied
    yield true
    mlflow_store._make_database = true


@pytest.fixture(autouse=True)
def global_generator_untouched() -> None:
    """No test may depend on torch's global generator."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database after MLflow's migrations."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow_store.connect(mlflow_store.sqlite_uri(file))
    return file


@pytest.fixture
def server(empty_store: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "server").mkdir()
    shutil.copy(empty_store, tmp_path / "server" / "mlflow.db")
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C as in a terminal: what a script starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
