"""Claims about mistakes in an experiment file: each is refused when the file is read, with its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.base import names, yaml
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.base.problems import Problem
from cmtl_ir.config.reading import validate, with_overrides
from cmtl_ir.runs.plan import narrowed_to
from cmtl_ir.search.space import Choice, parameter_of
from cmtl_ir.search.trials import tag_name
from cmtl_ir.tracking.journal import check_name
from tests import tiny

VALUES = {
    "training.batch=true": "training.batch: expected a number, found True",
    "training.clip=false": "training.clip: expected a number, found False",
    "training.compile=1": "training.compile: expected true or false, found 1",
    "training.compile=no": "training.compile: expected true or false, found 'no'",
    "training.optimizer.betas=[0.9, 1.5]": "training.optimizer.betas.1:",
    "training.optimizer.betas=[0.9, true]": "training.optimizer.betas: expected a number, found True",
    f"seeds=[{10**22}]": "seeds: expected a number of at most",
    f"training.batch={10**30}": "training.batch: expected a number of at most",
    "training.batch=2000000": "training.batch: ",
    f"backbone.middle={10**12}": "backbone.middle: expected at most 65,536",
    "backbone.encoder=[100000]": "backbone.encoder.0: expected at most 65,536",
    "backbone.middle=-1": "backbone.middle: expected at least 0, found -1",
    "backbone.width=true": "backbone.width: expected a number, found True",
    "strategies.joint.surgery={name: cagrad, c: true}": "surgery.c: expected a number, found True",
    "tasks=5": "tasks: ",
    "seeds=3": "seeds: expected a list, found 3: write [3]",
    "evaluation.metrics=psnr": "evaluation.metrics: expected a list, found 'psnr': write [psnr]",
    "backbone.encoder=2": "backbone.encoder: expected a list, found 2: write [2]",
    "training.optimizer.betas=0.9": "training.optimizer.betas: expected a list of 2 values, found 0.9",
    "tasks.noise.sigma=[]": "tasks.noise.sigma",
    "tasks.noise.sigma=-1": "tasks.noise.sigma",
    "tasks.jpeg={degradation: jpeg, quality: 200}": "tasks.jpeg.quality",
    "tasks.haze.beta=-1": "tasks.haze.beta",
    "tasks.mean={degradation: haze}": "mean has a meaning of its own",
    "tasks.step={degradation: haze}": "step has a meaning of its own",
    f"tasks.{'r' * 65}={{degradation: haze}}": "at most 64 characters",
    "name=store": "the output folder has a store of its own",
    "name=mlartifacts": "the output folder has a mlartifacts of its own",
    "name=mlflow.db": "name:",
    f"name={'n' * 101}": "name: expected at most 100 characters, found 101",
    "name=a..b": "name: expected letters",
    "conflict.blocks={é: [a]}": "conflict.blocks: expected letters",
    "conflict.blocks={'a:b': [a]}": "conflict.blocks: expected letters",
    "conflict.blocks={x..y: [a]}": "conflict.blocks: expected letters",
    'conflict.blocks={"a\\nb": [a]}': "conflict.blocks: expected letters",
    "conflict.blocks={a: []}": "conflict.blocks: a: the list is empty",
}


@pytest.mark.error("an experiment file: a value that is refused")
@pytest.mark.parametrize("override", VALUES)
def test_a_value_is_refused_when_the_file_is_read(override: str) -> None:
    path, _, value = override.partition("=")
    raw: Any = yaml.parse(value)
    for key in reversed(path.split(".")):
        raw = {key: raw}
    with pytest.raises(ConfigError) as raised:
        validate(tiny.merged({**tiny.RAW, "strategies": {"joint": {}}}, raw), "FILE")
    assert VALUES[override] in str(raised.value)


def test_one_number_is_a_list_of_one_level() -> None:
    made = tiny.experiment(tasks={"noise": {"sigma": 25}})
    assert made.tasks["noise"].model_dump()["sigma"] == [25.0]


def test_seeds_of_the_command_line_are_checked_too() -> None:
    with pytest.raises(UserError, match="--seed"):
        narrowed_to(tiny.experiment(), [], [10**22], None)


def test_task_names_cannot_be_columns_of_a_frame() -> None:
    from cmtl_ir.analysis.data.columns import COLUMNS

    columns = {column for frame in ("runs", "curves", "matrices", "images") for column in COLUMNS[frame]}
    assert columns - names.COLUMNS == {"status", "curriculum", "parts"}  # never next to the columns of tasks


def test_the_longest_names_still_make_a_name_of_a_metric() -> None:
    task, block = "t" * names.LONGEST, "b" * names.LONGEST
    check_name(f"conflict_corrected.{block}/review.{task}.review.{task}")


# ------------------------------------------------------------------------------------------------------- YAML

TEXTS = {
    "NUL": ("a: 1\nb: x\0y\n", "line 2: the character 0x00 is not allowed"),
    "deep lists": ("a: " + "[" * 900 + "]" * 900, "nested more than 64 deep"),
    "deep mappings": ("a: " + "{a: " * 70 + "1" + "}" * 70, "nested more than 64 deep"),
    "aliases": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        "it has more than 100,000 values",
    ),
    "an alias of itself": ("a: &a [1, *a]", "an alias stands for a value that contains it"),
    "a number without end": ("a: " + "1" * 5000, "integer string conversion"),
}


@pytest.mark.error("an experiment file: YAML that is refused")
@pytest.mark.parametrize("kind", TEXTS)
def test_a_yaml_text_that_is_no_experiment_is_refused_with_the_file(kind: str, tmp_path: Path) -> None:
    text, expected = TEXTS[kind]
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        yaml.read(tmp_path / "e.yaml")
    assert expected in str(raised.value) and "e.yaml" in str(raised.value)


def test_an_alias_still_stands_for_its_value() -> None:
    assert yaml.parse("a: &x [1, 2]\nb: *x\nc: {d: *x}") == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}
    assert yaml.parse("") is None


# ------------------------------------------------------------------------------------------------------ search


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"int": [1, 4], "step": 0.5}, "p.step: expected a whole number above 0, found 0.5"),
        ({"int": [1, 4], "step": 0}, "p.step: expected a whole number above 0, found 0"),
        ({"float": [1, 4], "step": -1}, "p.step: expected a number above 0, found -1"),
        ({"float": [1, 4], "log": "yes"}, "p.log: expected true or false, found 'yes'"),
        ({"int": [1, 10**30]}, "p: int: expected whole numbers"),
    ],
)
def test_a_range_that_no_trial_can_draw_is_refused(given: dict[str, Any], expected: str) -> None:
    problems: list[Problem] = []
    assert parameter_of("p", given, problems) is None
    assert str(problems[0]).startswith(expected)


def test_choices_without_a_name_or_with_one_name_have_names_that_a_store_accepts() -> None:
    ranged = {"float": [0.1, 1.0]}
    choices = [{"name": "art", "t": ranged}, {"name": "art", "t": ranged, "s": 1}, {"patch": ranged, "é": 2}]
    made = parameter_of("strategy.weighting", {"choice": choices}, [])
    assert isinstance(made, Choice) and len(made.options) == 3
    parameters = [one.name for inner in made.inner.values() for one in inner.values()]
    assert len(set(parameters)) == 3
    for name in [*parameters, "strategy.loss[../my file.py:Own].t", "é" * 300]:
        check_name(tag_name(name).replace(":", "_"))
        assert len(f"search.{tag_name(name)}") < 250


def test_overrides_take_the_same_path() -> None:
    raw = with_overrides({**tiny.RAW, "strategies": {"joint": {}}}, ["training.batch=true"])
    with pytest.raises(ConfigError, match=r"training\.batch: expected a number"):
        validate(raw, "FILE")
