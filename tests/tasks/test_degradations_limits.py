"""Fields of degradations: values out of range are refused by their path, and a number stands for a list of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from cmtl_ir.strategy import registry
from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.degradations._limits import Levels
from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.verification import verify
from tests.tasks.tasks import CPU

WRONG: list[tuple[str, str, Any, str]] = [
    ("gaussian_noise", "sigma", [-25], "numbers in 0 .. 255, found -25"),
    ("gaussian_noise", "sigma", [15, 300], "numbers in 0 .. 255, found 300"),
    ("gaussian_noise", "sigma", [], "the list is empty; name one level or more, as in [25]"),
    ("gaussian_noise", "sigma", True, "a list of numbers or one number, found True"),
    ("gaussian_noise", "sigma", [True], "a number, found True"),
    ("gaussian_noise", "sigma", {"a": 1}, "a list of numbers or one number"),
    ("gaussian_noise", "sigma", [15, 15.0000001], "would share the label 15"),
    ("gaussian_blur", "sigma", [0, 1], "above 0, up to 100, found 0"),
    ("gaussian_blur", "window", [8, 8], "[8, 8] holds no odd size; write [7, 9]"),
    ("gaussian_blur", "window", [0, 7], "1 .. 255, found 0"),
    ("defocus_blur", "radius", -1, "0 .. 100, found -1"),
    ("motion_blur", "length", [-9, 9], "0 .. 255"),
    ("motion_blur", "bend", [0, 90], "0 .. 10"),
    ("downsampling", "factor", [0], "1 .. 64"),
    ("downsampling", "factor", [], "the list is empty"),
    ("haze", "beta", [-0.5, 1], "0 .. 20, found -0.5"),
    ("haze", "beta", [1, 0.5], "[1.0, 0.5] is not in order"),
    ("haze", "beta", [1], "a range is [low, high], found [1]"),
    ("haze", "beta", [1, 2, 3], "a range is [low, high]"),
    ("haze", "airlight", [204, 255], "0 .. 1, found 204"),
    ("haze", "cast", -0.1, "0 .. 1"),
    ("haze", "cast", True, "a number, found True"),
    ("haze", "ramp", 2, "0 .. 1"),
    ("impulse_noise", "amount", [3, 27], "0 .. 1, found 3"),
    ("inpainting_mask", "density", 1.5, "0 .. 1"),
    ("inpainting_mask", "thickness", [-4, 12], "0 .. 64"),
    ("inpainting_mask", "fill", 255, "0 .. 1, found 255"),
    ("jpeg", "quality", 200, "1 .. 100, found 200"),
    ("jpeg", "quality", [0, 30], "1 .. 100, found 0"),
    ("jpeg_fast", "quality", [30, 101], "1 .. 100, found 101"),
    ("low_light", "gamma", [0, 1], "above 0"),
    ("low_light", "gain", [-1, 1], "0 .. 10"),
    ("low_light", "shot", 25, "0 .. 1, found 25"),
    ("low_light", "read", [0, 5], "0 .. 1"),
    ("mosaic", "sigma", [-5, 5], "0 .. 255"),
    ("mosaic", "patterns", [], "name one pattern or more of rggb"),
    ("poisson_gaussian_noise", "shot", [15, 50], "0 .. 1"),
    ("poisson_gaussian_noise", "read", -0.1, "0 .. 1"),
    ("rain_streaks", "density", 4, "0 .. 1"),
    ("rain_streaks", "length", [0, 20], "1 .. 1000"),
    ("rain_streaks", "angle", [-90, 90], "-80 .. 80, found -90"),
    ("rain_streaks", "width", 0, "above 0"),
    ("rain_streaks", "brightness", [76, 178], "0 .. 2"),
    ("raindrop", "density", -0.2, "0 .. 1"),
    ("raindrop", "minify", 0, "1 .. 50"),
    ("snow", "density", 80, "0 .. 1"),
    ("snow", "opacity", 1.5, "0 .. 1"),
    ("snow", "stretch", 0, "above 0"),
    ("snow", "wind", 720, "-180 .. 180"),
    ("composition", "parts", [], "name one degradation or more"),
    ("composition", "parts", [{"name": "jpeg", "quality": 200}], "quality: expected numbers in 1 .. 100, found 200"),
]


@pytest.mark.error("degradation: a value that is out of range")
@pytest.mark.parametrize(("name", "field", "given", "words"), WRONG)
def test_a_value_out_of_range_is_refused_by_its_path(name: str, field: str, given: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, TaskConfig]).validate_python({"rain": {"degradation": name, field: given}})
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("rain", field) and words in problem["msg"], problem


@pytest.mark.error("degradation: a value of a part that is out of range")
def test_a_value_of_a_nested_degradation_is_refused_too() -> None:
    with pytest.raises(ValidationError, match=r"0 \.\. 20, found -1") as caught:
        TaskConfig.model_validate({"degradation": "rain_veil", "veil": {"beta": [-1, 2]}})
    assert caught.value.errors()[0]["loc"] == ("veil", "beta")


def test_every_field_that_holds_numbers_has_limits() -> None:
    """A field that takes any number would take one on another scale."""
    tried = {(name, field) for name, field, _, _ in WRONG}
    for name in registry.names("degradation"):
        for field, info in registry.load("degradation", name).model_fields.items():  # type: ignore[attr-defined]
            default = info.default if isinstance(info.default, tuple) else (info.default,)
            if all(isinstance(one, int | float) and not isinstance(one, bool) for one in default):
                assert (name, field) in tried, f"{name}.{field}"


@pytest.mark.parametrize(
    ("name", "field", "given", "read"),
    [
        ("gaussian_noise", "sigma", 25, (25,)),
        ("downsampling", "factor", 4, (4,)),
        ("gaussian_blur", "sigma", 2, (2, 2)),
        ("gaussian_blur", "window", 9, (9, 9)),
        ("jpeg", "quality", 10, (10, 10)),
        ("mosaic", "patterns", "rggb", ("rggb",)),
    ],
)
def test_one_value_stands_for_a_list(name: str, field: str, given: Any, read: tuple[Any, ...]) -> None:
    task = TaskConfig.model_validate({"degradation": name, field: given})
    assert getattr(task.degradation, field) == read


@pytest.mark.error("degradation: a file of kernels or depths that cannot be read")
@pytest.mark.parametrize(("name", "field"), [("haze", "depths"), ("motion_blur", "kernels")])
@pytest.mark.parametrize("content", ["missing", "text", "folder", "values", "shape", "objects"])
def test_a_file_that_cannot_be_read_is_named_before_training(
    tmp_path: Path, name: str, field: str, content: str
) -> None:
    file = tmp_path / "my array.npy"
    if content == "text":
        file.write_text("no array")
    elif content == "folder":
        file.mkdir()
    elif content == "values":
        np.save(file, np.full((2, 3, 3), -1.0))
    elif content == "shape":
        np.save(file, np.ones(5))
    elif content == "objects":
        np.save(file, np.array([{"a": 1}], dtype=object))
    fields = {field: str(file)}
    tasks = {"one": TaskConfig.model_validate({"degradation": name, **fields})}
    parts = [{"name": name, **fields}]
    tasks["two"] = TaskConfig.model_validate({"degradation": "composition", "parts": parts})
    for one in tasks:
        with pytest.raises(DataError, match=rf"{name}\.{field}: .*my array\.npy: "):
            build_tasks({one: tasks[one]}, DataConfig(), 0, CPU)
    found = {one.where: one for one in verify(tasks, DataConfig())}
    assert "my array.npy" in found["one.degradation"].problems[0] and found["two.degradation"].problems


def test_a_level_may_be_listed_twice_to_count_twice() -> None:
    assert TypeAdapter(Levels).validate_python([15, 15, 50]) == (15, 15, 50)


@pytest.mark.error("data: true where a number is meant")
@pytest.mark.parametrize("field", ["patch", "bits", "test_limit", "test_crop", "gpu_gigabytes"])
def test_true_is_not_a_number_of_data(field: str) -> None:
    with pytest.raises(ValidationError, match=rf"(?s){field}.*expected a number, found True"):
        DataConfig.model_validate({field: True})


def test_true_is_not_a_number_of_repeats() -> None:
    with pytest.raises(ValidationError, match=r"(?s)repeats.*expected a number, found True"):
        TaskConfig.model_validate({"degradation": "haze", "repeats": True})
