"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from skimage import data, io

from cmtl_ir.base import yaml
from cmtl_ir.config import reading
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny
from tests.tasks.files import folder_of

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", README, re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
YAML = [text for kind, text in BLOCKS if kind == "yaml"]


def test_the_experiment_shown_is_the_quickstart() -> None:
    shown = yaml.parse(YAML[0])
    assert reading.validate(shown, "README").resolved() == reading.load("quickstart").resolved()


def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    io.imsave("photo.png", data.astronaut()[:96, :96])
    exec(compile(PYTHON[0], "README", "exec"), {})
    assert Path("restored.png").is_file()


def test_methods_of_ones_own_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.training.test_training import trained

    monkeypatch.chdir(tmp_path)
    for block in (block for block in PYTHON if block.startswith(("# my_weighting.py", "# my_surgery.py"))):
        file, _, _ = block.removeprefix("# ").partition("\n")
        Path(file).write_text(block)
        assert sum(bool(line.strip()) for line in block.splitlines()[1:]) < 15
    strategy = yaml.parse(YAML[-1])["strategies"]["mine"]
    learner, watcher = trained(strategy)
    assert not tiny.same(tiny.weights(learner), tiny.weights(tiny.learner(strategy)))
    weights, surgery = watcher.results[0].weights, watcher.results[0].surgery
    assert surgery is not None and weights.mean() == pytest.approx(1.0) and len(set(surgery.tolist())) == 3


def learnt(raw: dict[str, Any]) -> Learner:
    """What an experiment trains, whose weights have moved."""
    experiment = reading.validate({**raw, "training": {"steps": 2, "batch": 3}}, "README")
    tasks = build_tasks(experiment.tasks, experiment.data, 0, torch.device("cpu"))
    learner = Learner(experiment, experiment.strategies["joint"], tasks, 0, torch.device("cpu"))
    before = tiny.weights(learner)
    train(learner, tiny.Silent())
    assert not tiny.same(tiny.weights(learner), before)
    return learner


def test_pairs_in_five_lines_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(YAML[1].strip().splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    for folder in ("rainy", "clean", "test/rainy", "test/clean"):
        names = ["one.png", "two three.png"]
        folder_of(Path("my_data", folder), names if "clean" in folder else names[::-1])  # something to learn
    raw = {**tiny.RAW, "tasks": yaml.parse(YAML[1])["tasks"]}
    learner = learnt(raw)
    assert len(learner.task_of["derain"].splits.test) == 2


def test_a_backbone_of_ones_own_trains(tmp_path: Path) -> None:
    file = tmp_path / "my_backbone.py"
    file.write_text(next(block for block in PYTHON if block.startswith("# my_backbone.py")))
    raw = {**tiny.RAW, "backbone": {"name": f"{file}:Mine", "width": 4}}
    assert tiny.weights(learnt(raw))["layers.0.weight"].shape == (4, 3, 3, 3)


def test_every_command_shown_exists() -> None:
    from cmtl_ir.cli.commands import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    names |= {str(group.name) for group in app.registered_groups}
    shown = set(re.findall(r"^ +cmtl-ir (\w+)", README, re.MULTILINE))
    assert shown and shown <= names
