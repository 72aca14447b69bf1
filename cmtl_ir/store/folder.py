"""The folder of a run: reading and writing what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError, brief
from cmtl_ir.base.files import or_nan, write_json, write_whole
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import CHECKPOINTS, CONFIG, DIVERGED, GROUPS, LOCK, RESULT, USES, WEIGHTS


def lock_of(run: Path, wait: bool = False) -> FileLock:
    """Return the lock of a run's folder.

    If another process holds it, acquiring it raises filelock.Timeout, or waits if `wait` is true.
    """
    run.mkdir(parents=True, exist_ok=True)
    return FileLock(run / LOCK, timeout=-1 if wait else 0)


def has_result(run: Path) -> bool:
    """Return whether the run has its scores."""
    return (run / RESULT).is_file()


def is_finished(run: Path) -> bool:
    """Return whether the run has its scores and its network, or the networks of all its groups.

    A run that has lost its network is made again: from its last checkpoint, or from the start without one.
    """
    if not has_result(run):
        return False
    if is_grouped(run):
        return all(has_weights(run.parent / group["run"]) for group in read_groups(run)["groups"])
    return has_weights(run)


def has_weights(run: Path) -> bool:
    """Return whether the run has its own network, which a grouped run has not."""
    return (run / WEIGHTS).is_file()


def is_grouped(run: Path) -> bool:
    """Return whether the folder is that of a grouped run."""
    return (run / GROUPS).is_file()


def read_result(run: Path) -> dict[str, Any]:
    """Return scores, curve and cost of a finished run."""
    way_out = "delete it: the command of its experiment then writes it again from the last checkpoint"
    return with_nan(_read(run / RESULT, way_out))


def with_nan(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result that was read from JSON, where a score of null is the NaN that a metric gave."""
    return {**_scores(result), "curve": [_scores(point) for point in result.get("curve", ())]} if result else {}


def _scores(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result or a point of its curve with NaN for null in every mapping from tasks to scores."""
    made = {**found, "val": _scores(found["val"])} if isinstance(found.get("val"), Mapping) else dict(found)
    named = {key: value for key, value in made.items() if _is_scores(value)}
    return made | {key: {task: or_nan(one) for task, one in value.items()} for key, value in named.items()}


def _is_scores(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(one, float | int | None) for one in value.values())


def write_result(run: Path, result: Mapping[str, Any]) -> Path:
    """Write the result of a run, which counts as finished from now on."""
    return write_json(run / RESULT, result)


def diverged_step(run: Path) -> int | None:
    """Return the step at which the run diverged. `None` if it did not, or is being trained again."""
    return _read(run / DIVERGED, "delete it")["step"] if (run / DIVERGED).is_file() else None


def write_diverged(run: Path, step: int, reason: str) -> Path:
    """Write that the run diverged."""
    return write_json(run / DIVERGED, {"step": step, "reason": reason})


def _read(file: Path, way_out: str) -> Any:
    """Return the content of a JSON file of ours. Raise UserError naming it if it is damaged."""
    try:
        return json.loads(file.read_text())
    except ValueError as error:  # also no UTF-8
        raise UserError(f"{file} is damaged ({brief(error)}): copy it from a backup, or {way_out}") from error


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
    return _read(run / GROUPS, "train the run again with `cmtl-ir run EXPERIMENT --fresh`")


def write_groups(run: Path, groups: Mapping[str, Any]) -> Path:
    """Write the groups of a grouped run."""
    return write_json(run / GROUPS, groups)


def read_uses(run: Path) -> list[str]:
    """Return the hashes of the runs that a run of groups or with proxies uses. Empty for any other run."""
    return _read(run / USES, "delete it") if (run / USES).is_file() else []


def write_uses(run: Path, hashes: Sequence[str]) -> Path:
    """Write the hashes of the runs that a run of groups or with proxies uses."""
    return write_json(run / USES, list(hashes))


def latest_checkpoint(run: Path) -> checkpoint.Checkpoint | None:
    """Return the newest intact checkpoint of a run, or `None`. Raise CheckpointError if it belongs to another run."""
    return checkpoint.load_latest(run / CHECKPOINTS, expect={"run": run.name})
