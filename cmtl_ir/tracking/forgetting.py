"""Removal of records from the tracking store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import url2pathname

from cmtl_ir.tracking.journal import Delivery
from cmtl_ir.tracking.mlflow_store import COMPARISON, MlflowStore, sqlite_file, sqlite_uri
from cmtl_ir.tracking.store import SYNCED, present_uri

if TYPE_CHECKING:
    from mlflow.entities import Run


def forget_run(folder: Path, uri: str | None = None) -> bool:
    """Delete the record of a run's folder, and its artifacts where these are files here. Return whether there was one.

    `uri` is the store. `None` takes the one that the folder names; a database that is gone counts as no record.
    """
    mark = Delivery.read(folder)
    if not mark.run_id:
        return False
    store = _store(uri or present_uri(mark, folder), folder.parent.parent)
    if store is None:
        return False
    with store.alone():
        run = store.get(mark.run_id)
        if run is not None:
            _delete(store, run)
    return run is not None


def forget_comparison(folder: Path, uri: str | None = None) -> bool:
    """Delete the record of a comparison, and the tags by which runs belong to it. Return whether there was one.

    `uri` is the store. `None` takes the one next to the comparison's folder.
    """
    store = _store(uri or sqlite_uri(folder.parent / MlflowStore.FILE), folder.parent)
    if store is None:
        return False
    with store.alone():
        parent = store.find({COMPARISON: folder.name})
        for run in store.members(folder.name):
            store.client.delete_tag(run.info.run_id, f"in.{folder.name}")
        if parent is not None:
            _delete(store, parent)
    return parent is not None


def _store(uri: str, folder: Path) -> MlflowStore | None:
    database = sqlite_file(uri)
    return None if database is not None and not database.is_file() else MlflowStore(uri, folder, SYNCED)


def _delete(store: MlflowStore, run: Run) -> None:
    store.client.delete_run(run.info.run_id)
    uri = run.info.artifact_uri or ""
    if uri.startswith("file:"):
        shutil.rmtree(Path(url2pathname(uri.removeprefix("file:").removeprefix("//"))).parent, ignore_errors=True)
