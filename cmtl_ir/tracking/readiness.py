"""Whether a database is one that MLflow will take, found without importing MLflow, which takes seconds."""

from __future__ import annotations

import re
import sqlite3
from functools import cache
from importlib.util import find_spec
from pathlib import Path

TABLES = ("experiments", "runs", "tags", "params", "metrics", "latest_metrics")
"""Tables that writing a run needs."""
_REVISION = re.compile(r"^revision\b[^=\n]*= *(.*)$", re.MULTILINE)
_BEFORE = re.compile(r"^down_revision\b[^=\n]*= *(.*)$", re.MULTILINE)
_NAME = re.compile(r"[\"'](\w+)[\"']")


def is_ready(file: Path) -> bool:
    """Return whether a database can be written now and has the schema of the installed MLflow. It is not changed."""
    newest = newest_schema()
    if newest is None or not file.is_file():
        return False
    try:
        connection = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=1.0, isolation_level=None)
    except sqlite3.Error:
        return False
    try:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest,)] and _takes_rows(
            connection
        )
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def _takes_rows(connection: sqlite3.Connection) -> bool:
    """Read every table and begin a write, which is rolled back. Raise sqlite3.Error if one of them fails."""
    for table in TABLES:
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    ((number,),) = connection.execute("PRAGMA user_version").fetchall()
    connection.execute(f"PRAGMA user_version = {number + 1}")
    connection.execute("ROLLBACK")
    return True


@cache
def newest_schema() -> str | None:
    """Return the revision of the schema that the installed MLflow writes. `None` if it is not found.

    It is the migration that no other migration follows.
    """
    spec = find_spec("mlflow")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "store" / "db_migrations" / "versions"
    texts = [file.read_text(encoding="utf-8") for file in folder.glob("*.py")]
    followed = {name for text in texts for name in _named(_BEFORE, text)}
    last = {name for text in texts for name in _named(_REVISION, text)} - followed
    return last.pop() if len(last) == 1 else None


def _named(line: re.Pattern[str], text: str) -> list[str]:
    found = line.search(text)
    return _NAME.findall(found[1]) if found else []
