"""Tasks and images in experiment files: accepted forms, and messages for mistakes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.sources import pattern_expression

TASKS = TypeAdapter(dict[str, TaskConfig])
PAIRS = {"input": "a", "target": "b"}


def mistakes(task: Any) -> dict[str, str]:
    """Path in the file -> message, for one wrong task called `rain`."""
    with pytest.raises(ValidationError) as caught:
        TASKS.validate_python({"rain": task})
    return {".".join(map(str, one["loc"])): one["msg"] for one in caught.value.errors()}


@pytest.mark.parametrize(
    "given",
    [
        {"degradation": "gaussian_noise"},
        {"degradation": "gaussian_noise", "sigma": [25], "repeats": 3},
        {"degradation": "rain_streaks", "test": PAIRS, "val": {"clean": "folder"}},
        {"degradation": "haze", "clean": ["one", "two"]},
        PAIRS,
        {**PAIRS, "input_name": "{name}_*", "sizes": "centre", "repeats": 120, "test": {**PAIRS, "sizes": "centre"}},
    ],
)
def test_a_task_is_read_back_as_it_was_written(given: dict[str, Any]) -> None:
    task = TaskConfig.model_validate(given)
    for mode in ("json", "python"):
        written = task.model_dump(mode=mode)
        assert TaskConfig.model_validate(written) == task
        assert set(given) <= set(written)


def test_a_degradation_gets_its_own_fields() -> None:
    task = TaskConfig.model_validate({"degradation": "gaussian_noise", "sigma": [25], "repeats": 3})
    assert task.degradation is not None and task.degradation.called == "gaussian_noise"
    assert task.degradation.model_dump()["sigma"] == (25,) and task.repeats == 3


def test_a_degradation_may_come_from_a_file(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from cmtl_ir.tasks.degradation import Degradation\nclass Fade(Degradation):\n    strength: float = 0.5\n"
    )
    task = TaskConfig.model_validate({"degradation": f"{file}:Fade", "strength": 0.25})
    assert TaskConfig.model_validate(task.model_dump()) == task


@pytest.mark.error("tasks: a mistake in a task")
@pytest.mark.parametrize(
    ("task", "path", "words"),
    [
        ({"degradation": "gausian_noise"}, "rain.degradation", "did you mean gaussian_noise"),
        ({"degradation": "gaussian_noise", "sgima": [3]}, "rain.sgima", "unknown key; did you mean sigma"),
        ({"degradation": "gaussian_noise", "repaets": 3}, "rain.repaets", "did you mean repeats"),
        ({"degradation": "gaussian_noise", "quantise": "x"}, "rain.quantise", "Input should be"),
        ({"degradation": "gaussian_noise", "repeats": 0}, "rain.repeats", "greater than or equal to 1"),
        ({"degradation": 3}, "rain.degradation", "unknown degradation '3'"),
        ({"inptu": "a", "target": "b"}, "rain.inptu", "did you mean input"),
        ({"input": "a"}, "rain", "target is missing"),
        ({}, "rain", "gaussian_noise"),
        ({**PAIRS, "degradation": "haze"}, "rain", "expected either degradation: NAME"),
        ({**PAIRS, "clean": "c"}, "rain", "clean: needs a degradation"),
        ({**PAIRS, "test": {"clean": "c"}}, "rain", "clean: needs a degradation"),
        ({**PAIRS, "input_name": "{name}_{a}"}, "rain", "share no {name}"),
        ({**PAIRS, "input_name": "{name}_{name}"}, "rain", "has one {word} twice; give each a name of its own"),
        ({**PAIRS, "without": "{a}{a}"}, "rain.without", "has one {word} twice"),
        ({**PAIRS, "input_name": "x", "target_name": "x"}, "rain", "share no {name}"),
        ({"degradation": "haze", "test": {"inptu": "a"}}, "rain.test.inptu", "Extra inputs"),
        ({"degradation": "haze", "test": {}}, "rain.test", "expected either input: and target:"),
        ("haze", "rain", "dictionary"),
    ],
)
def test_a_mistake_is_named_with_its_path(task: Any, path: str, words: str) -> None:
    found = mistakes(task)
    assert path in found and words in found[path], found


def test_all_mistakes_of_a_degradation_are_told_at_once() -> None:
    assert set(mistakes({"degradation": "gaussian_noise", "sgima": 1, "quantise": "x"})) == {
        "rain.sgima",
        "rain.quantise",
    }


@pytest.mark.parametrize(
    "wrong", [{"patch": 0}, {"val": 1.5}, {"val": "embedded"}, {"flips": "all"}, {"test_limit": 0}]
)
def test_wrong_data_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataConfig.model_validate(wrong)


def test_data_settings_are_read_back_as_written() -> None:
    data = DataConfig(train=["a", "b"], val=0.2, test="c", test_limit=5, test_crop=64)
    assert DataConfig.model_validate(data.model_dump(mode="json")) == data


def test_the_schema_lets_a_degradations_fields_pass() -> None:
    schema = TaskConfig.model_json_schema()
    assert schema["additionalProperties"] is True and "string" in schema["properties"]["degradation"]["type"]


def test_one_pattern_stands_for_a_list() -> None:
    assert TaskConfig.model_validate({**PAIRS, "without": "im_*"}).without == ("im_*",)


@pytest.mark.parametrize(
    ("pattern", "name", "captured"),
    [
        ("{name}", "a/b c.d", {"name": "a/b c.d"}),
        ("{name}_*", "0001_0.8_0.2", {"name": "0001"}),
        ("rain-{name}", "rain-7", {"name": "7"}),
        ("rain-{name}", "norain-7", None),
        ("{scene}/blur/{frame}", "A/B/blur/000047", {"scene": "A/B", "frame": "000047"}),
        ("{name}.x(1)", "a.x(1)", {"name": "a"}),
        ("{name}.x", "a-x", None),
    ],
)
def test_patterns_capture_what_must_be_shared(pattern: str, name: str, captured: dict[str, str] | None) -> None:
    match = pattern_expression(pattern).fullmatch(name)
    assert (match and match.groupdict()) == captured
