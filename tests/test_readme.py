"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from skimage import data, io

from cmtl_ir import config, yaml
from tests import tiny

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", README, re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
YAML = [text for kind, text in BLOCKS if kind == "yaml"]


def test_the_experiment_shown_is_the_quickstart() -> None:
    shown = yaml.parse(YAML[0])
    assert config.validate(shown, "README").resolved() == config.load("quickstart").resolved()


def test_the_python_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    io.imsave("photo.png", data.astronaut()[:96, :96])
    exec(compile(PYTHON[0], "README", "exec"), {})
    assert Path("restored.png").is_file()


def test_methods_of_ones_own_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_training import trained

    monkeypatch.chdir(tmp_path)
    for block in PYTHON[1:]:
        file, _, _ = block.removeprefix("# ").partition("\n")
        Path(file).write_text(block)
        assert sum(bool(line.strip()) for line in block.splitlines()[1:]) < 15
    strategy = yaml.parse(YAML[-1])["strategies"]["mine"]
    learner, watcher = trained(strategy)
    assert not tiny.same(tiny.weights(learner), tiny.weights(tiny.learner(strategy)))
    weights, surgery = watcher.results[0].weights, watcher.results[0].surgery
    assert surgery is not None and weights.mean() == pytest.approx(1.0) and len(set(surgery.tolist())) == 3


def test_pairs_in_five_lines_are_valid(tmp_path: Path) -> None:
    task = config.TaskConfig.model_validate(yaml.parse(YAML[1])["tasks"]["derain"])
    assert task.input == "my_data/rainy" and task.test is not None


def test_every_command_shown_exists() -> None:
    from cmtl_ir.cli import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    shown = set(re.findall(r"^ +cmtl-ir (\w+)", README, re.MULTILINE))
    assert shown and shown <= names
