"""Using a trained run: restore images, score them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmtl_ir import backbones, checkpoint
from cmtl_ir.config import Experiment
from cmtl_ir.errors import UserError
from cmtl_ir.evaluation import Evaluator, restore_tiled
from cmtl_ir.learner import pick_device, placed
from cmtl_ir.tasks.images import decode
from cmtl_ir.tasks.suite import build_tasks

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def find_run(name: str | Path, out: str | Path = "runs") -> Path:
    """The folder of a finished run: a path, its hash (or the start of it), or COMPARISON/LABEL[/SEED].

    Raises UserError listing the runs there are.
    """
    path, store = Path(name), Path(out) / "store"
    if (path / "weights.safetensors").is_file():
        return path
    finished = {one.parent.name: one.parent for one in sorted(store.glob("*/weights.safetensors"))}
    finished = {hash_: folder for hash_, folder in finished.items() if "." not in hash_}  # not those set aside
    by_label = {label: store / hash_ for label, hash_ in _labels(Path(out)).items() if hash_ in finished}
    found = {str(folder): folder for key, folder in finished.items() if key.startswith(str(name))}
    found |= {str(f): f for label, f in by_label.items() if label == str(name) or label.rpartition("/")[0] == str(name)}
    if len(found) == 1:
        return next(iter(found.values()))
    known = ", ".join(sorted(by_label) or sorted(finished)) or "none yet"
    raise UserError(f"{'several runs match' if found else 'no finished run'} {str(name)!r} in {out}; finished: {known}")


def _labels(out: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted(out.glob("*/runs.json")):
        for row in json.loads(file.read_text()):
            found[f"{file.parent.name}/{row['label']}/{row['seed']}"] = row["hash"]
    return found


def experiment_of(run: Path, out: str | Path = "runs") -> Path:
    """The resolved experiment file of a comparison that this run belongs to. Raises UserError."""
    for file in sorted(Path(out).glob("*/runs.json")):
        if any(row["hash"] == run.name for row in json.loads(file.read_text())):
            return file.parent / "experiment.yaml"
    raise UserError(f"no comparison in {out} lists the run {run}; name its experiment with --file")


def load_model(run: Path, device: torch.device) -> tuple[nn.Module, list[str]]:
    """The trained backbone of a run, in eval mode, and its tasks."""
    weights, header = checkpoint.load_weights(run / "weights.safetensors")
    model = backbones.build(**json.loads(header["backbone"]))
    model.load_state_dict(weights)
    return placed(model, device).eval(), json.loads(header["tasks"])


def restore(
    run: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    out: str | Path = "runs",
    task: str | None = None,
    device: str = "auto",
    tile: int = 1024,
    overwrite: bool = False,
    told: Callable[[int, int, Path], None] | None = None,
) -> list[Path]:
    """Restore an image or a folder of images with a trained run; returns the files written.

    `told` is called with (number, total, file). Never overwrites unless asked. Raises UserError.
    """
    chosen, folder = pick_device(device), find_run(run, out)
    pairs = list(_pairs(Path(source), Path(target)))
    standing = [there for _, there in pairs if there.exists()]
    if standing and not overwrite:
        raise UserError(f"{standing[0]} exists ({len(standing)} of {len(pairs)} files); say --overwrite to replace it")
    model, tasks = load_model(folder, chosen)
    if task is not None and task not in tasks:
        raise UserError(f"--task {task!r}: this run knows {', '.join(tasks)}")
    numbers = torch.tensor([tasks.index(task) if task else 0], device=chosen)
    for number, (file, there) in enumerate(pairs, 1):
        there.parent.mkdir(parents=True, exist_ok=True)
        _restore_file(model, file, there, numbers, tile)
        if told is not None:
            told(number, len(pairs), there)
    return [there for _, there in pairs]


def _restore_file(model: nn.Module, file: Path, there: Path, numbers: Tensor, tile: int) -> None:
    from cmtl_ir.results import write_image

    image = torch.from_numpy(np.array(decode(file))).permute(2, 0, 1)[None].to(numbers.device).float() / 255.0
    write_image(there, restore_tiled(model, image, numbers, tile))


def _pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    if source.is_file():
        yield source, target / f"{source.stem}.png" if target.is_dir() or not target.suffix else target
        return
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{source}: {'no image in this folder' if source.is_dir() else 'no such file or folder'}")
    for file in files:
        yield file, (target / file.relative_to(source)).with_suffix(".png")


def evaluate(
    run: str | Path, experiment: Experiment, *, out: str | Path = "runs", device: str = "auto"
) -> list[dict[str, Any]]:
    """Score a trained run on an experiment's test sets: one row an image, as `Evaluator.scores` gives them."""
    chosen = pick_device(device)
    model, known = load_model(find_run(run, out), chosen)
    seed = experiment.seeds[0]
    tasks = build_tasks(experiment.tasks, experiment.data, seed, chosen)
    if missing := sorted(set(tasks) - set(known)):
        raise UserError(f"the run was not trained on {', '.join(missing)}; it knows {', '.join(known)}")
    ordered = {name: tasks[name] for name in known if name in tasks}
    return Evaluator(ordered, experiment.evaluation.protocol, experiment.evaluation.tile, chosen).scores(model)
