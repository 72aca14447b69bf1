"""The weights of `start`: found by run or file, hashed by their content, and put into a learner."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.backbones._weights import PREFIXES, _unwrapped
from cmtl_ir.base.errors import UserError
from cmtl_ir.base.weights_file import read_weights
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.reading import shipped_experiments
from cmtl_ir.config.start import StartConfig
from cmtl_ir.runs.begin.filling import fill
from cmtl_ir.store import checkpoint
from cmtl_ir.store.folder import is_finished, is_grouped
from cmtl_ir.store.layout import WEIGHTS, run_folder, stage_folders
from cmtl_ir.store.listing import comparisons
from cmtl_ir.store.lookup import find_run, find_seeds
from cmtl_ir.training.learner import Learner

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin")
"""Ends of names that stand for a file rather than a run."""


@dataclass(frozen=True)
class StartWeights:
    """Weights that a run begins from. Called with a fresh learner, they replace its initial weights."""

    config: StartConfig
    place: Path
    """File of weights, or folder of the checkpoint at the end of a stage."""
    digest: str
    """SHA-256 of names, types, shapes and values of the tensors, whatever file holds them."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the identity of a run holds of its start."""
        learned = sorted(self.config.learned)
        return {"weights": self.digest, **({"learned": learned} if learned else {})}

    def __call__(self, learner: Learner) -> None:
        """Fill the network of a learner, and tell it which tasks it knows. Raises WeightsError if they do not fit."""
        fill(learner.model, content_of(self.place), self.config.allow, str(self.place))
        learner.learned = tuple(task for task in learner.tasks if task in self.config.learned)


def start_weights(experiment: Experiment, strategy: Strategy, seed: int, out: Path) -> StartWeights | None:
    """Return the weights that a strategy begins from under a seed. `None` stands for initial weights.

    `out` is the folder in which runs are looked up. Raises UserError if there is no such run or file.
    """
    config = experiment.start_of(strategy)
    if config is None:
        return None
    place = _place(config, seed, out)
    return StartWeights(config, place, digest_of_file(place))


def start_identity(experiment: Experiment, strategy: Strategy, seed: int, out: Path) -> dict[str, Any] | None:
    """Return what the identity of a run holds of its start. `None` for a run that begins from initial weights."""
    start = start_weights(experiment, strategy, seed, out)
    return None if start is None else start.identity


def weights_of_named_runs(strategy: Strategy, out: Path) -> dict[str, str]:
    """Return name -> hash of the weights of the finished runs that the objectives of a strategy name.

    Raises UserError if there is no such run.
    """
    named = [name for objective in strategy.auxiliary for name in objective.named_runs()]
    return {name: digest_of_file(find_run(name, out) / WEIGHTS) for name in named}


# --------------------------------------------------------------------------------------------------------- finding


def _place(config: StartConfig, seed: int, out: Path) -> Path:
    file = Path(config.source).expanduser()
    if file.is_file() or (file.suffix in SUFFIXES and not file.is_dir()):
        if config.stage is not None:
            raise UserError(f"{file} is a file: `stage` is for runs, which keep the weights of each stage")
        read_weights(file) if not file.is_file() else None  # says what is missing
        return file
    run = _run(config.source, seed, out)
    if is_grouped(run):
        raise UserError(f"{config.source} is a grouped run of several networks; name the run of one of its groups")
    if config.stage is None:
        return run / WEIGHTS
    stages = stage_folders(run)
    if config.stage not in stages:
        raise UserError(
            f"stage {config.stage}: {config.source} has the stages {', '.join(map(str, stages)) or 'none'}; name one"
        )
    return stages[config.stage]


def _run(name: str, seed: int, out: Path) -> Path:
    """Return the folder of a finished run, that of the same seed if the name stands for several."""
    _refuse_unfinished(name, seed, out)
    try:
        found = find_seeds(name, out)
    except UserError as error:
        at, _, label = name.partition("/")
        if at not in shipped_experiments():
            raise
        label = label.partition("/")[0]
        raise UserError(f"{error}; `cmtl-ir run {at} --strategy {label} --seed {seed}` trains it") from error
    if len(found) > 1 and seed not in found:
        known = ", ".join(map(str, sorted(found)))
        raise UserError(
            f"{name} has no finished run of seed {seed} (finished: {known}); train it with this seed, or name one run "
            f"for all seeds: {name}/{min(found)}"
        )
    return found[seed] if len(found) > 1 else next(iter(found.values()))


def _refuse_unfinished(name: str, seed: int, out: Path) -> None:
    """Raise UserError if a comparison lists the run, or that of this seed, but it has no weights yet."""
    for folder, rows in comparisons(out):
        for row in rows:
            label = f"{folder.name}/{row['label']}"
            own = name == f"{label}/{row['seed']}" or (name == label and row["seed"] == seed)
            if own and not is_finished(run_folder(out, row["hash"])):
                raise UserError(
                    f"{label}, seed {row['seed']}, is not finished; run the experiment {folder.name} to its end first"
                )


# --------------------------------------------------------------------------------------------------------- reading


def content_of(place: Path) -> Mapping[str, Tensor]:
    """Return the named tensors of a file or of a checkpoint at the end of a stage."""
    if place.is_dir():
        saved = checkpoint.load_latest(place)
        if saved is None:
            raise UserError(f"{place} holds no intact checkpoint; train its run again (--fresh)")
        model: dict[str, Tensor] = saved.tree["model"]
        return model
    return _unwrapped(read_weights(place), place)[0]


def source_place(source: str, seed: int, out: Path) -> Path:
    """Return the file of weights of a finished run or of a file, as `start: SOURCE` finds it."""
    return _place(StartConfig.model_validate(source), seed, out)


def source_digest(source: str, seed: int, out: Path) -> str:
    """Return the hash of the weights of a finished run or of a file."""
    return digest_of_file(source_place(source, seed, out))


def digest_of_file(place: Path) -> str:
    """Return the SHA-256 of the named tensors of a file, or of a checkpoint at the end of a stage."""
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    marks = tuple((str(one), one.stat().st_mtime_ns, one.stat().st_size) for one in files)
    return _digest_of(place, marks)


@lru_cache(maxsize=64)
def _digest_of(place: Path, marks: tuple[tuple[str, int, int], ...]) -> str:
    """Return the hash of the tensors at a place. `marks` (names, times, sizes of its files) tell when they changed."""
    content = dict(content_of(place))
    while prefix := next((one for one in PREFIXES if all(key.startswith(one) for key in content)), None):
        content = {key.removeprefix(prefix): value for key, value in content.items()}
    return digest_of(content)


def digest_of(content: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(content):
        tensor = content[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
