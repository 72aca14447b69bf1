"""The folder of a run: reading and writing what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from cmtl_ir.base import yaml
from cmtl_ir.base.files import write_whole
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import CHECKPOINTS, CONFIG, GROUPS, LOCK, RESULT, USES, WEIGHTS


def lock_of(run: Path, wait: bool = False) -> FileLock:
    """The lock of a run's folder. Acquiring it raises filelock.Timeout if another process holds it; `wait`: waits."""
    run.mkdir(parents=True, exist_ok=True)
    return FileLock(run / LOCK, timeout=-1 if wait else 0)


def is_finished(run: Path) -> bool:
    """Whether the run has its result."""
    return (run / RESULT).is_file()


def has_weights(run: Path) -> bool:
    """Whether the run has a network of its own; a grouped run has none."""
    return (run / WEIGHTS).is_file()


def is_grouped(run: Path) -> bool:
    """Whether the folder is a grouped run's."""
    return (run / GROUPS).is_file()


def read_result(run: Path) -> dict[str, Any]:
    """Scores, curve and cost of a finished run."""
    return json.loads((run / RESULT).read_text())


def write_result(run: Path, result: Mapping[str, Any]) -> Path:
    """Finish a run: from now on it counts as finished."""
    return write_whole(run / RESULT, json.dumps(result, indent=1))


def has_config(run: Path) -> bool:
    """Whether the run was begun."""
    return (run / CONFIG).is_file()


def read_identity(run: Path) -> dict[str, Any]:
    """What the run is made of, as it was written when the run was begun."""
    return yaml.read(run / CONFIG)["identity"]


def write_config(run: Path, identity: Mapping[str, Any], environment: Mapping[str, Any]) -> Path:
    """Record what a run is made of and where it is trained."""
    return write_whole(run / CONFIG, yaml.dump({"identity": dict(identity), "environment": dict(environment)}))


def read_groups(run: Path) -> dict[str, Any]:
    """The groups of a grouped run, and all that restoring needs to know of them."""
    return json.loads((run / GROUPS).read_text())


def write_groups(run: Path, groups: Mapping[str, Any]) -> Path:
    """Record the groups of a grouped run."""
    return write_whole(run / GROUPS, json.dumps(groups, indent=1))


def read_uses(run: Path) -> list[str]:
    """Hashes of the runs that a grouped run uses; empty for any other run."""
    return json.loads((run / USES).read_text()) if (run / USES).is_file() else []


def write_uses(run: Path, hashes: Sequence[str]) -> Path:
    """Record the runs that a grouped run uses."""
    return write_whole(run / USES, json.dumps(list(hashes)))


def latest_checkpoint(run: Path) -> checkpoint.Checkpoint | None:
    """The newest intact checkpoint of a run; `None` if there is none. Raises CheckpointError if it is another run's."""
    return checkpoint.load_latest(run / CHECKPOINTS, expect={"run": run.name})
