"""The run that is to forget: where it is stored, how it was trained, and what it has already forgotten."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError, suggestion
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.start import OUTSIDE
from cmtl_ir.runs.begin.outside import expected_identity
from cmtl_ir.runs.plan import Prepared, prepare
from cmtl_ir.store import checkpoint, lookup
from cmtl_ir.store.folder import has_config, is_finished, read_identity, read_result
from cmtl_ir.store.layout import STAGES, run_folder, stage_folders
from cmtl_ir.store.listing import comparisons, listed_runs
from cmtl_ir.store.run import hash_of
from cmtl_ir.strategy.data import Stage
from cmtl_ir.tasks.task import Task


@dataclass(frozen=True)
class Origin:
    """A finished run that is to forget: an ordinary run, or the result of an earlier request."""

    folder: Path
    comparison: str
    """Name of a comparison that lists the run, or that lists the grouped run to which it belongs."""
    label: str
    """Label of the run, or label of its grouped run followed by the tasks of its group."""
    seed: int
    root: Path
    """Folder of the ordinary run at the start of the chain of requests."""
    identity: dict[str, Any]
    """Identity of that ordinary run."""
    forgotten: tuple[str, ...]
    """Tasks forgotten by earlier requests."""
    backbone: dict[str, Any]
    """Backbone of this run. It differs from that of the ordinary run if constituents were retrained."""
    prepared: Prepared
    """Experiment of the ordinary run, cut down to its strategy and seed, and its data."""
    called: str
    """Name that a command line gives to this run and to the runs of the other seeds."""

    @property
    def name(self) -> str:
        """COMPARISON.LABEL, from which the names of its unlearning comparisons are made."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self.comparison}.{self.label}")

    @property
    def hash(self) -> str:
        """Name of the run in the store."""
        return self.folder.name

    @property
    def experiment(self) -> Experiment:
        """Tasks, data, backbone and training of the ordinary run."""
        return self.prepared.experiment

    @property
    def tasks(self) -> dict[str, Task]:
        """Tasks of the ordinary run with their data."""
        return self.prepared.tasks[self.seed]

    @property
    def device(self) -> torch.device:
        """Device on which the results are trained and measured."""
        return self.prepared.device

    @property
    def strategy(self) -> Strategy:
        """Strategy of the ordinary run."""
        return next(iter(self.experiment.strategies.values()))

    @property
    def kept(self) -> tuple[str, ...]:
        """Tasks that the run has not forgotten."""
        return tuple(task for task in self.experiment.tasks if task not in self.forgotten)

    def result(self) -> dict[str, Any]:
        """Return scores and cost of the run that is to forget."""
        return read_result(self.folder)

    def root_curve(self) -> list[dict[str, Any]]:
        """Return the evaluations of the ordinary run."""
        return read_result(self.root)["curve"]

    def stage_end(self, number: int | None = None) -> checkpoint.Checkpoint:
        """Return the checkpoint at the end of stage `number` of the ordinary run, counted from 1.

        `None` selects the last stage. Raises UserError if there is no such checkpoint.
        """
        folders = stage_folders(self.root)
        folder = folders.get(max(folders, default=0) if number is None else number)
        saved = checkpoint.load_latest(folder, expect={"run": self.root.name}) if folder is not None else None
        if saved is None:
            raise UserError(
                f"{self.root / STAGES} has no checkpoint of stage {number or 'any'}: train the run again (--fresh); "
                "`--method retrain` needs none"
            )
        return saved


def stages_of(tree: Mapping[str, Any]) -> list[Stage]:
    """Return the finished stages in a learner's tree."""
    return [Stage(name=one["name"], mixture=one["mixture"], steps=one["steps"]) for one in tree["finished"]]


def find_origin(run: str | Path, out: Path, device: str = "auto") -> Origin:
    """Return the finished run of this name.

    Raises UserError if there is no such run, if it is not finished, or if its data have changed.
    """
    folder = finished_run(str(run), out)
    file = lookup.experiment_of(folder, out)
    label, seed = label_of(folder.name, file.parent)
    return origin_of(folder, file, label, seed, f"{file.parent.name}/{label}", out, device)


def origin_of(folder: Path, file: Path, label: str, seed: int, called: str, out: Path, device: str) -> Origin:
    """Return the finished run in a folder, of the experiment in `file`. Raise UserError if its data have changed."""
    found = read_identity(folder)
    root, identity, forgotten = _start_of_chain(folder, found)
    prepared = prepare(_experiment(file, identity, label, seed), out, device)
    if expected_identity(prepared.runs[0].identity, identity) != identity:
        raise UserError(
            f"{file} no longer describes the run {root.name}: its data, tasks or settings have changed since, so "
            "what the run learnt is unknown. Restore them, or train the run again"
        )
    backbone = found["backbone"]
    return Origin(folder, file.parent.name, label, seed, root, identity, forgotten, backbone, prepared, called)


def find_runs(run: str | Path, out: Path) -> list[Path]:
    """Return the folders of the finished runs of this name.

    COMPARISON/LABEL names the runs of all seeds. Raises UserError if there is no such run or if one is not finished.
    """
    seeds = [row["seed"] for name, row in _rows(out) if name == str(run)]
    return [finished_run(name, out) for name in ([str(run)] if len(seeds) < 2 else [f"{run}/{s}" for s in seeds])]


def _rows(out: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return (COMPARISON/LABEL, row) for every row of every comparison's list of runs."""
    return [(f"{folder.name}/{row['label']}", row) for folder, rows in comparisons(out) for row in rows]


def finished_run(name: str, out: Path) -> Path:
    """Return the folder of the finished run of this name. Raise UserError if there is none or if it is not finished."""
    try:
        folder = lookup.find_run(name, out)
        if is_finished(folder):
            return folder
    except UserError as error:
        if (unfinished := _unfinished(name, out)) is None:
            raise error from None
        raise unfinished from None
    raise _unfinished(name, out) or UserError(f"the run in {folder} is not finished")


def _unfinished(name: str, out: Path) -> UserError | None:
    """Return the error for an unfinished run of this name. `None` if there is no such run or more than one."""
    found = {
        row["hash"]: (label, row["seed"])
        for label, row in _rows(out)
        if name in (label, f"{label}/{row['seed']}", str(run_folder(out, row["hash"]))) or row["hash"].startswith(name)
    }
    if len(found) != 1:
        return None
    ((hash_, (label, seed)),) = found.items()
    asked = f"cmtl-ir run FILE --strategy {label.rpartition('/')[2]} --seed {seed} --out {out}"
    return UserError(
        f"the run {label}/{seed} is not finished ({run_folder(out, hash_)}): `{asked}`, with the file of its "
        "experiment, finishes it; only then can it forget. COMPARISON/LABEL/SEED names the run of one seed"
    )


def label_of(hash_: str, comparison: Path) -> tuple[str, int]:
    """Return label and seed of a run from the list in a comparison's folder."""
    row = next(row for row in listed_runs(comparison) if row["hash"] == hash_)
    return row["label"], row["seed"]


def _start_of_chain(folder: Path, identity: dict[str, Any]) -> tuple[Path, dict[str, Any], tuple[str, ...]]:
    """Return folder and identity of the ordinary run at the start of the chain, and what the chain has forgotten."""
    if "unlearning" in identity:
        asked = identity["unlearning"]
        root = folder.parent / asked["origin"]
        if not has_config(root):
            raise UserError(f"the run {folder.name} was made from {asked['origin']}, which is not in {folder.parent}")
        return root, read_identity(root), tuple(asked["forgotten"])
    plain = {key: value for key, value in identity.items() if key != "without"}
    return folder.parent / hash_of(plain), plain, tuple(identity.get("without", ()))


def _experiment(file: Path, identity: Mapping[str, Any], label: str, seed: int) -> Experiment:
    """Return the comparison's experiment, cut down to this run. The strategy is read from the identity of the run."""
    raw = yaml.read(file)
    parts = {family: part for family, part in identity["strategy"].items() if part is not None}
    parts |= {"auxiliary": []} if OUTSIDE in identity else {}  # nothing is known of its training
    raw |= {"strategies": {label: parts}, "seeds": [seed], "training": identity["training"], "unlearning": None}
    raw["conflict"] = {"every": identity["conflict"]}
    raw["tasks"] = {task: fields for task, fields in raw["tasks"].items() if task in identity["tasks"]}
    return reading.validate({key: value for key, value in raw.items() if value is not None}, str(file))


def never_had(run: str, task: str, kept: Sequence[str]) -> UserError:
    """Return the error for a task that the run never had."""
    near = suggestion(task, list(kept))
    guess = f"; {near}" if near.startswith("did you mean") else ""
    return UserError(f"the run {run} never had {task!r}; it has {', '.join(kept)}{guess}")


def check_request(origins: Sequence[Origin], forget: Sequence[str]) -> None:
    """Raise UserError if a task is named twice, unknown or already forgotten, or if no task would remain."""
    if len(set(forget)) < len(forget):
        raise UserError(f"a task is to be forgotten twice: {', '.join(forget)}")
    for origin in origins:
        for task in forget:
            if task in origin.forgotten:
                raise UserError(
                    f"the run {origin.name} has forgotten {task!r} already; it has {', '.join(origin.kept)}"
                )
            if task not in origin.kept:
                raise never_had(origin.name, task, origin.kept)
        if set(origin.kept) <= set(forget):
            raise UserError(
                f"{', '.join(forget)} is all that the run {origin.name} has: forgetting it leaves nothing to keep. "
                "Delete the run instead, or train another"
            )
