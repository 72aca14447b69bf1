"""Artifacts of a comparison in a folder of results, found without importing MLflow, which takes seconds."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlparse

from cmtl_ir.tracking.mlflow_store import COMPARISON
from cmtl_ir.tracking.readiness import is_ready

_QUERY = """
SELECT runs.run_uuid, runs.artifact_uri FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid
WHERE tags.key = ? AND tags.value = ? AND runs.lifecycle_stage = 'active' ORDER BY runs.start_time DESC LIMIT 1
"""


def artifacts_of(database: Path, comparison: str) -> tuple[str, Path] | None:
    """Return the run of a comparison and the folder of its artifacts, which lies next to the database.

    `None` if only MLflow can tell: the database is not ready, does not know the comparison, or keeps its artifacts
    elsewhere.
    """
    if not is_ready(database):
        return None
    try:
        connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            found = connection.execute(_QUERY, (COMPARISON, comparison)).fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return None
    if found is None:
        return None
    place = urlparse(found[1])
    folder = Path(unquote(place.path))
    beside = folder.is_relative_to(database.parent / "mlartifacts")
    return (found[0], folder) if place.scheme == "file" and beside and folder.is_dir() else None
