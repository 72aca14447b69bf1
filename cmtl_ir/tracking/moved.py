"""A database file before MLflow opens it, and its artifacts after its folder was moved."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse


def check_database(file: Path) -> None:
    """Raise sqlite3.Error, at once, if a file is no usable database. MLflow would try for 100 s."""
    connection = sqlite3.connect(file, timeout=30)
    try:
        connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
    finally:
        connection.close()


def follow_artifacts(client: Any, location: str, place: Path) -> None:
    """Let the artifacts of an experiment lie in `place` from now on, if that is where they are or where they can be.

    MLflow stores absolute paths. After the folder of results was moved, it would make the old folder again and write
    there. Where only the database was copied, its artifacts stay where they are.
    """
    wanted, before = place.as_uri(), location.rstrip("/")
    parsed = urlparse(before)
    if before == wanted or parsed.scheme not in ("", "file"):
        return
    if Path(unquote(parsed.path)).is_dir() and not place.is_dir():
        return
    import sqlalchemy

    tables = {"experiments": "artifact_location", "runs": "artifact_uri"}
    with client._tracking_client.store.engine.begin() as connection:
        for table, column in tables.items():
            text = (
                f"UPDATE {table} SET {column} = :wanted || substr({column}, :length) "
                f"WHERE {column} = :before OR substr({column}, 1, :length) = :below"
            )
            values = {"wanted": wanted, "before": before, "below": f"{before}/", "length": len(before) + 1}
            connection.execute(sqlalchemy.text(text), values)
