"""Experiments whose run hashes are frozen: the shipped ones, those of the documentation, one per registered part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.store.run import hash_of
from cmtl_ir.strategy import making, registry
from cmtl_ir.tasks.suite import build_tasks
from tests import tiny

ROOT = Path(__file__).parents[2]
EMBEDDED = ("quickstart", "multitask", "settings/setting1-mini")
"""Shipped experiments that are hashed with their true data: they need none but the embedded photographs."""


def shipped() -> Iterator[tuple[str, Experiment]]:
    """Every shipped experiment, of a search the experiment that it stands on."""
    for name, path in reading.shipped_experiments().items():
        raw = reading.read_raw(path)
        raw = {key: value for key, value in raw.items() if key not in ("search", "tune")}
        yield name, reading.validate(raw, name)


def documented() -> Iterator[tuple[str, Experiment]]:
    """Every experiment that README or a page of docs/ shows whole."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            raw = yaml.parse(block)
            if not isinstance(raw, Mapping) or not {"name", "tasks", "strategies"} <= set(raw):
                continue
            yield f"{page.name}#{number}", reading.validate({k: v for k, v in raw.items() if k != "search"}, page.name)


def one_part_each() -> Iterator[tuple[str, Experiment]]:
    """The tiny experiment under every part that its name alone makes, and under some with fields."""
    for family in ("curriculum", "weighting", "surgery", "retention", "grouping"):
        for name in registry.names(family):
            try:
                yield f"{family}/{name}", tiny.experiment({"one": {family: name}})
            except UserError:
                continue  # a part with required fields
    yield (
        "whole",
        tiny.experiment(
            {"one": {"curriculum": "review", "surgery": {"name": "cagrad", "c": 0.2}, "retention": "distill"}}
        ),
    )
    for loss in ("l1", "charbonnier", "psnr"):
        yield f"loss/{loss}", tiny.experiment(training={"loss": loss})


def without_data(experiment: Experiment) -> dict[str, Any]:
    """Tasks that stand for data which are not there."""
    return {
        name: SimpleNamespace(digest=name, test_digest=f"{name}-test", val_digest=None) for name in experiment.tasks
    }


def hashes() -> dict[str, str]:
    """`EXPERIMENT LABEL SEED` -> hash of the run."""
    found = {}
    for source, experiments in (("shipped", shipped()), ("docs", documented()), ("tiny", one_part_each())):
        for name, experiment in experiments:
            real = source == "tiny" or name in EMBEDDED
            for label, strategy in experiment.strategies.items():
                for seed in experiment.seeds:
                    tasks = tasks_of(experiment, seed) if real else without_data(experiment)
                    found[f"{source} {name} {label} {seed}"] = hash_of(identity_of(experiment, strategy, seed, tasks))
    for name in registry.names("unlearning"):
        method = registry.load("unlearning", name)()
        method.call_it(name)
        found[f"unlearning {name}"] = hash_of(making.described(method) or {})
    return found


def tasks_of(experiment: Experiment, seed: int) -> Mapping[str, Any]:
    """The true tasks of an experiment; the same data are looked for once."""
    key = (repr(experiment.tasks), repr(experiment.data), seed)
    if key not in _known:
        _known[key] = build_tasks(experiment.tasks, experiment.data, seed, torch.device("cpu"))
    return _known[key]


_known: dict[Any, Mapping[str, Any]] = {}
