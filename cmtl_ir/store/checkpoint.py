"""Human-readable checkpoints: tensors in safetensors, everything else in JSON, and no pickle.

    FOLDER/step-000000900/tensors.safetensors    every tensor of the tree, named by its path
                          state.json             the tree, with tensors by name
                          SHA256SUMS             of both files; `sha256sum -c` reads it

A checkpoint exists completely or not at all: it is written next to its final place, flushed to disk and renamed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import safetensors.torch
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import flush_folder, write_flushed, write_whole
from cmtl_ir.base.trees import from_json, safetensors_pieces, to_json
from cmtl_ir.store.seal import KEYS, is_intact, sealed_pieces

FORMAT = 1
TENSORS, STATE, SUMS = "tensors.safetensors", "state.json", "SHA256SUMS"
_NAME = re.compile(r"step-(\d{9,})(?:\.(\d+))?")
_UNFINISHED = ".saving-"


class CheckpointError(UserError):
    """Raised for a checkpoint that cannot be written or must not be read. Names the file and the way out."""


class DamagedCheckpoint(CheckpointError):
    """Raised for a checkpoint whose files are missing or differ from what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, with tensors on the CPU."""

    path: Path
    step: int
    tree: dict[str, Any]
    metadata: dict[str, Any]


# ------------------------------------------------------------------------------------------------------- save


def save(
    folder: Path, tree: Mapping[str, Any], *, step: int, keep: int = 2, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write `tree` as the newest checkpoint in `folder`, keep the last `keep`, and return its path.

    Leaves are tensors, strings, booleans, None, ints of any size and floats (exact). Branches are dicts with strings or
    ints as keys, lists and tuples. `metadata` holds plain values that identify the owner, which `load` compares with
    `expect`. Checkpoints of later steps belong to an abandoned course of training and are removed.
    """
    if keep < 1 or step < 0:
        raise ValueError(f"keep must be at least 1 and step at least 0, not {keep} and {step}")
    folder, tensors = Path(folder), dict[str, Tensor]()
    state = {"format": FORMAT, "step": step, "metadata": dict(metadata or {}), "tree": to_json(tree, (), tensors)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock", timeout=60):
            path = _save_alone(folder, state, tensors)
            _prune(folder, step, keep)
    except filelock.Timeout:
        raise CheckpointError(
            f"another process has been saving into {folder} for 60 s: is the run started twice?"
        ) from None
    except OSError as error:
        raise CheckpointError(_could_not_save(error, folder, step, tensors.values())) from error
    return path


def _save_alone(folder: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    _remove_unfinished(folder)
    temporary = folder / f"{_UNFINISHED}{os.getpid()}-{time.time_ns()}"
    try:
        temporary.mkdir()
        _write_files(temporary, state, tensors)
        path = _free_place(folder, state["step"])
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    flush_folder(folder)
    return path


def _write_files(place: Path, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    text = json.dumps(state, indent=1, allow_nan=False)
    sums = {
        TENSORS: write_flushed(place / TENSORS, safetensors_pieces(tensors, {})),
        STATE: write_flushed(place / STATE, [text.encode()]),
    }
    write_flushed(place / SUMS, ["".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()])
    flush_folder(place)


def _could_not_save(error: OSError, folder: Path, step: int, tensors: Iterable[Tensor]) -> str:
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    text = f"could not save the checkpoint of step {step}: {error.filename or folder}: {error.strerror or error}. "
    left = _checkpoints(folder)
    if left:
        text += f"The one before is intact: {left[-1]}. "
    way = (
        f"Free {math.ceil(size / 1e6)} MB or more"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "Make the folder writable"
    )
    return text + f"{way} and run the same command again: it resumes from " + (left[-1].name if left else "the start")


def _checkpoints(folder: Path) -> list[Path]:
    """Return the paths of the checkpoints in a folder, oldest first."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if match := _NAME.fullmatch(path.name):
            found.append((int(match[1]), int(match[2] or 0), path))
    return [path for *_, path in sorted(found)]


def _step_of(path: Path) -> int:
    return int(_NAME.fullmatch(path.name)[1])  # type: ignore[index]


def _free_place(folder: Path, step: int) -> Path:
    """Return `step-N`, or `step-N.M` if that step exists already, because a rename must never replace anything."""
    same = [path for path in _checkpoints(folder) if _step_of(path) == step]
    if not same:
        return folder / f"step-{step:09d}"
    return folder / f"step-{step:09d}.{int(_NAME.fullmatch(same[-1].name)[2] or 0) + 1}"  # type: ignore[index]


def _prune(folder: Path, step: int, keep: int) -> None:
    """Keep the newest checkpoint of each of the last `keep` steps up to `step`, and remove all others."""
    newest = {_step_of(path): path for path in _checkpoints(folder) if _step_of(path) <= step}
    kept = {newest[number] for number in sorted(newest)[-keep:]}
    for path in _checkpoints(folder):
        if path not in kept:
            path.rename(path.with_name(_UNFINISHED + path.name))  # half a removal must not look like a checkpoint
    _remove_unfinished(folder)


def _remove_unfinished(folder: Path) -> None:
    """Remove what dead writers left. The caller holds the lock of the folder, so no other writer is active."""
    for path in folder.glob(_UNFINISHED + "*"):
        shutil.rmtree(path, ignore_errors=True)


# ------------------------------------------------------------------------------------------------------- load


def newest_step(folder: Path) -> int | None:
    """Return the step of the newest checkpoint in `folder` without reading it. `None` if there is none."""
    found = _checkpoints(Path(folder))
    return _step_of(found[-1]) if found else None


def load_latest(folder: Path, expect: Mapping[str, Any] | None = None) -> Checkpoint | None:
    """Return the newest intact checkpoint in `folder`, or `None`. Damaged ones are skipped with a warning."""
    for path in reversed(_checkpoints(Path(folder))):
        try:
            return load(path, expect)
        except DamagedCheckpoint as error:
            warnings.warn(f"{error}; taking the one before it", RuntimeWarning, stacklevel=2)
    return None


def load(path: Path, expect: Mapping[str, Any] | None = None) -> Checkpoint:
    """Read a checkpoint.

    Raises DamagedCheckpoint if it is damaged, and CheckpointError if its metadata differ from `expect`, such as
    `{"config": HASH}`. `expect=None` compares nothing.
    """
    path = Path(path)
    try:
        sums = {line[66:]: line[:64] for line in (path / SUMS).read_text().splitlines()}
        contents = {name: _verified(path / name, sums.get(name, "")) for name in (TENSORS, STATE)}
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"the checkpoint {path} is damaged: {Path(error.filename).name} is missing") from error
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"the checkpoint {path} is damaged: {error}") from error
    state = json.loads(contents[STATE])
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']}, this version reads {FORMAT}: use the version that wrote it"
        )
    for key, wanted in (expect or {}).items():
        if (found := state["metadata"].get(key)) != wanted:
            raise CheckpointError(
                f"{path} belongs to another run: its {key} is {found!r}, this run's is {wanted!r}. "
                "Point this run at another folder, or start from the experiment that wrote it"
            )
    tree = from_json(state["tree"], safetensors.torch.load(contents[TENSORS]))
    return Checkpoint(path, state["step"], tree, state["metadata"])


def _verified(path: Path, digest: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{path.name} is not what was written")
    return content


# ---------------------------------------------------------------------------------------------------- weights


def save_weights(path: Path, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write or replace a safetensors file that any tool reads. It contains the SHA-256 of its content."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, sealed_pieces(state_dict, metadata))
    except OSError as error:
        raise CheckpointError(f"could not save the weights {path}: {error.strerror or error}") from error


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the weights on the CPU and the metadata of a file that `save_weights` wrote.

    Raises CheckpointError if there is no such file, and DamagedCheckpoint if it is not what was written.
    """
    try:
        intact = is_intact(path)
        with safetensors.safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no weights file {path}: copy it from a backup, or give the command of its experiment again, "
            "which makes it again"
        ) from None
    except (safetensors.SafetensorError, OSError) as error:
        raise DamagedCheckpoint(f"{path} is not an intact safetensors file ({error}); {_DAMAGED_WAY_OUT}") from error
    if not intact:
        raise DamagedCheckpoint(f"{path} is damaged: its SHA-256 is not the one in its header; {_DAMAGED_WAY_OUT}")
    return weights, {key: value for key, value in metadata.items() if key not in KEYS}


_DAMAGED_WAY_OUT = "copy the file from a backup, or train the run again with `cmtl-ir run EXPERIMENT --fresh`"
