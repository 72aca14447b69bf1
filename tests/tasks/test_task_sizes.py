"""Test images that are too small are reported before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.cli import main
from cmtl_ir.config import reading
from cmtl_ir.measures.evaluation import evaluate_pair
from cmtl_ir.measures.metric import DEFAULT_NAMES, smallest_side
from cmtl_ir.measures.protocol import PROTOCOLS
from cmtl_ir.runs.plan import prepare
from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from cmtl_ir.tasks.verification import Finding, verify
from tests.tasks.files import folder_of, pattern, write
from tests.tasks.tasks import CPU

TOO_SMALL = {"promptir": 15, "basicsr_rgb": 10, "basicsr_y": 10, "matlab_y": 10, "mio": 18, "nafnet": 10}
"""Protocol -> the longest side that it cannot score."""
HAZE = {"degradation": "haze"}


@pytest.fixture
def photos(tmp_path: Path) -> str:
    folder = folder_of(tmp_path / "photos", ["a.png", "c.png"])
    write(folder / "b small.png", pattern(30, 15))
    return str(folder)


def task_of(task: dict[str, Any] = HAZE, **data: Any) -> Task:
    read = {"one": TaskConfig.model_validate(task)}
    return build_tasks(read, DataConfig.model_validate({"patch": 8, **data}), 0, CPU, smallest=16)["one"]


def found_of(task: dict[str, Any] = HAZE, **data: Any) -> dict[str, Finding]:
    read = {"one": TaskConfig.model_validate(task)}
    return {one.where: one for one in verify(read, DataConfig.model_validate({"patch": 8, **data}), smallest=16)}


@pytest.mark.error("data: a test image that the metric protocol cannot score")
@pytest.mark.parametrize("split", ["test", "val"])
def test_an_image_that_cannot_be_scored_is_named(photos: str, split: str) -> None:
    words = r"than the 16x16 which the metric protocol needs: b small\.png \(15x30\); remove.*evaluation\.protocol"
    with pytest.raises(DataError, match=rf"{words}.*data\.on_error: skip"):
        task_of(**{split: photos})
    found = found_of(**{split: photos})[f"data.{split}"]
    assert found.problems == [f"smaller than the 16x16 that the metric protocol needs: {Path(photos) / 'b small.png'}"]


def test_pairs_are_looked_at_too(photos: str) -> None:
    pairs = {"input": photos, "target": photos}
    with pytest.raises(DataError, match=r"metric protocol needs: b small\.png"):
        task_of({**HAZE, "test": pairs})
    assert "b small.png" in found_of({**HAZE, "test": pairs})["one.test"].problems[0]


def test_an_image_that_cannot_be_scored_may_be_skipped(photos: str, caplog: pytest.LogCaptureFixture) -> None:
    assert task_of(test=photos, on_error="skip").splits.test.names == ("a.png", "c.png")
    assert "b small.png" in caplog.text


def test_images_beyond_the_limit_may_have_any_size(photos: str) -> None:
    assert len(task_of(test=photos, test_limit=1).splits.test) == 3
    assert found_of(test=photos, test_limit=1)["data.test"].problems == []
    with pytest.raises(DataError, match=r"b small\.png"):
        task_of(test=photos, test_limit=2)


@pytest.mark.error("data: a test crop that the metric protocol cannot score")
def test_a_test_crop_that_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.test_crop: 15 is less than the 16 pixels.*`data\.test_crop: 16`"):
        task_of(test_crop=15)
    assert "data.test_crop: 15" in found_of(test_crop=15)["data.test_crop"].problems[0]
    assert "data.test_crop" not in found_of(test_crop=16) and task_of(test_crop=16).data.test_crop == 16


# ------------------------------------------------------------------------------------------ with the protocols


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_least_side_is_that_of_the_protocol(protocol: str) -> None:
    side = TOO_SMALL[protocol] + 1
    assert smallest_side(protocol, DEFAULT_NAMES) == side
    image = torch.rand(1, 3, side, side + 5)
    assert all(score.isfinite().all() for score in evaluate_pair(image, image, protocol).values())
    with pytest.raises(ValueError, match="too small"):
        evaluate_pair(image[:, :, 1:], image[:, :, 1:], protocol)


@pytest.mark.error("run: a test image that is too small for {protocol}")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_run_is_refused_before_it_is_trained(protocol: str, tmp_path: Path) -> None:
    """`run`, `run --dry-run` and `data verify` alike."""
    write(tmp_path / "photos" / "tiny.png", pattern(TOO_SMALL[protocol], 40))
    raw = {"name": "v", "tasks": {"haze": HAZE}, "data": {"test": str(tmp_path / "photos")}}
    experiment = reading.validate({**raw, "evaluation": {"protocol": protocol}, "strategies": {"joint": {}}}, "v")
    with pytest.raises(DataError, match=r"tiny\.png \(40x\d+\).*evaluation\.protocol"):
        prepare(experiment, tmp_path / "runs", "cpu")


def test_verify_knows_the_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "photos" / "tiny.png", pattern(15, 40))
    tasks = f"tasks: {{haze: {{degradation: haze}}}}\ndata: {{test: {tmp_path / 'photos'}}}"
    (tmp_path / "v.yaml").write_text(f"name: v\n{tasks}\nstrategies: {{joint: {{}}}}\n")
    with pytest.raises(SystemExit) as ended:
        main(["data", "verify", str(tmp_path / "v.yaml")])
    assert ended.value.code == 1 and "smaller than the 16x16 that the metric protocol needs" in capsys.readouterr().out
