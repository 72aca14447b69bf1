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
    """Return the lock of a run's folder.

    If another process holds it, acquiring it raises filelock.Timeout, or waits if `wait` is true.
    """
    run.mkdir(parents=True, exist_ok=True)
    return FileLock(run / LOCK, timeout=-1 if wait else 0)


def is_finished(run: Path) -> bool:
    """Return whether the run has a result."""
    return (run / RESULT).is_file()


def has_weights(run: Path) -> bool:
    """Return whether the run has its own network, which a grouped run has not."""
    return (run / WEIGHTS).is_file()


def is_grouped(run: Path) -> bool:
    """Return whether the folder is that of a grouped run."""
    return (run / GROUPS).is_file()


def read_result(run: Path) -> dict[str, Any]:
    """Return scores, curve and cost of a finished run."""
    return json.loads((run / RESULT).read_text())


def write_result(run: Path, result: Mapping[str, Any]) -> Path:
    """Write the result of a run, which counts as finished from now on."""
    return write_whole(run / RESULT, json.dumps(result, indent=1))


def has_config(run: Path) -> bool:
    """Return whether the run was started."""
    return (run / CONFIG).is_file()


def read_identity(run: Path) -> dict[str, Any]:
    """Return the identity of a run, as it was written when the run was started."""
    return yaml.read(run / CONFIG)["identity"]


def write_config(run: Path, identity: Mapping[str, Any], environment: Mapping[str, Any]) -> Path:
    """Write the identity of a run and the environment in which it is trained."""
    return write_whole(run / CONFIG, yaml.dump({"identity": dict(identity), "environment": dict(environment)}))


def read_groups(run: Path) -> dict[str, Any]:
    """Return the groups of a grouped run, and everything that restoring needs."""
    return json.loads((run / GROUPS).read_text())


def write_groups(run: Path, groups: Mapping[str, Any]) -> Path:
    """Write the groups of a grouped run."""
    return write_whole(run / GROUPS, json.dumps(groups, indent=1))


def read_uses(run: Path) -> list[str]:
    """Return the hashes of the runs that a grouped run uses. Empty for any other run."""
    return json.loads((run / USES).read_text()) if (run / USES).is_file() else []


def write_uses(run: Path, hashes: Sequence[str]) -> Path:
    """Write the hashes of the runs that a grouped run uses."""
    return write_whole(run / USES, json.dumps(list(hashes)))


def latest_checkpoint(run: Path) -> checkpoint.Checkpoint | None:
    """Return the newest intact checkpoint of a run, or `None`. Raise CheckpointError if it belongs to another run."""
    return checkpoint.load_latest(run / CHECKPOINTS, expect={"run": run.name})
