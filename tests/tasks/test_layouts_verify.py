"""Claims about `data verify`: every planted fault is told by the file's name, and nothing else is complained about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cmtl_ir import config, yaml
from cmtl_ir.tasks.layout_table import LAYOUTS
from cmtl_ir.tasks.verification import Finding, verify
from tests.tasks.files import folder_of, pattern, truncate, write
from tests.tasks.trees import tree


def found_of(task: dict[str, Any], **data: Any) -> dict[str, Finding]:
    raw = {"name": "v", "tasks": {"rain": task}, "data": {"patch": 16, **data}}
    experiment = config.validate(raw, "v")
    return {one.where: one for one in verify(experiment.tasks, experiment.data)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The 100 test pairs of Rain100H, complete, in a folder whose name has a space."""
    return tree(tmp_path / "my data" / "Rain100H", LAYOUTS["rain100h"].forms("test")[-2], 100)


@pytest.fixture
def named(root: Path) -> dict[str, Any]:
    return {"dataset": "rain100h", "root": str(root), "split": "test"}


def test_a_complete_set_is_well(named: dict[str, Any]) -> None:
    (finding,) = found_of(named).values()
    assert (finding.found, finding.published, finding.problems, finding.notes) == (100, 100, [], [])


def test_every_planted_fault_is_named(root: Path, named: dict[str, Any]) -> None:
    (root / "target" / "name3.png").unlink()
    (root / "input" / "name4.png").unlink()
    write(root / "target" / "name5.png", pattern(20, 26))
    truncate(root / "input" / "name6.png")
    (root / "target" / "name7.png").write_text("not an image")
    write(root / "target" / "NAME8.png", pattern(20, 24)), (root / "target" / "name8.png").unlink()
    write(root / "target" / "name9.bmp", pattern(20, 24))
    (root / "input" / "name10.png").rename(root / "input" / "name 10.png")
    (root / "target" / "name10.png").rename(root / "target" / "Name 10.PNG")
    (root / "input" / "Thumbs.db").write_text("stray")
    (finding,) = found_of(named).values()
    problems = "\n".join(finding.problems)
    for words in (
        f"no clean partner: {root / 'input' / 'name3.png'}",
        f"no degraded partner: {root / 'target' / 'name4.png'}",
        f"unequal sizes, 24x20 and 26x20: {root / 'input' / 'name5.png'}",
        f"unreadable: {root / 'input' / 'name6.png'}",
        f"unreadable: {root / 'target' / 'name7.png'}: not an image",
        f"several clean partners: {root / 'input' / 'name9.png'} fits name9.bmp and name9.png",
        "94 usable where 100 were published",
    ):
        assert words in problems, problems
    assert len(finding.problems) == 7 and finding.notes == [f"no image: {root / 'input' / 'Thumbs.db'}"]


def test_images_smaller_than_a_crop_are_named(root: Path, named: dict[str, Any]) -> None:
    finding = found_of(named, patch=64)["rain.train"]
    assert finding.problems[0] == f"smaller than a crop of 64x64: {root / 'input' / 'name0.png'}"


def test_files_that_no_pattern_fits_are_told_apart(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path / "all", ["x_real.png", "x_mean.png", "y.png"]))
    pairs = {"input": folder, "target": folder, "input_name": "{name}_real", "target_name": "{name}_mean"}
    finding = found_of(pairs)["rain.train"]
    assert (finding.found, finding.problems) == (1, [])
    assert finding.notes == [f"fits no pattern: {tmp_path / 'all' / 'y.png'}"]


def test_every_split_is_looked_at(tmp_path: Path, root: Path) -> None:
    tree(root, LAYOUTS["rain100h"].forms("train")[0], 2)
    assert set(found_of({"dataset": "rain100h", "root": str(root)})) == {"rain.train", "rain.test"}
    photos = str(folder_of(tmp_path / "photos", ["a.png", "b.png"]))
    noise = {"degradation": "gaussian_noise", "test": {"clean": photos}, "val": {"clean": photos}}
    assert list(found_of(noise)) == ["data.clean", "rain.val", "rain.test"]
    assert list(found_of({**noise, "clean": photos}, test=photos)) == ["rain.train", "rain.val", "rain.test"]
    assert list(found_of({"degradation": "haze"}, val=0.2, test=photos)) == ["data.clean", "data.test"]


def test_what_cannot_be_found_is_a_finding_not_a_crash(tmp_path: Path) -> None:
    finding = found_of({"dataset": "gopro", "root": str(tmp_path)})["rain.train"]
    assert "no train images" in finding.problems[0] and finding.published == 2103
    missing = found_of({"degradation": "haze"}, clean=str(tmp_path / "nowhere"))["data.clean"]
    assert "no such file or folder" in missing.problems[0]


def test_nothing_is_stored(root: Path, named: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CMTL_IR_CACHE", str(tmp_path / "cache"))
    found_of(named)
    assert not (tmp_path / "cache").exists()


# -------------------------------------------------------------------------------------------------- the commands


def data(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cmtl_ir", "data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_verify_ends_with_1_when_something_is_wrong(root: Path, named: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(yaml.dump({"name": "v", "tasks": {"rain": named}, "data": {"patch": 16}}))
    well = data("verify", file)
    assert well.returncode == 0 and "100 of 100 published, ok" in well.stdout, well.stdout + well.stderr
    for number in range(5):
        truncate(root / "input" / f"name{number}.png")
    wrong = data("verify", file, "--limit", "2")
    assert wrong.returncode == 1 and "NOT ok" in wrong.stdout and "6 problems" in wrong.stdout, wrong.stdout
    assert "name1.png" in wrong.stdout and "name2.png" not in wrong.stdout and "and 4 more" in wrong.stdout


def test_list_shows_the_table_and_where_a_set_is_looked_for() -> None:
    table = data("list")
    assert table.returncode == 0 and all(name in table.stdout for name in LAYOUTS)
    one = data("list", "gopro")
    assert "train 2103: train/{scene}/blur/{frame} with train/{scene}/sharp/{frame}" in one.stdout
    assert "CC BY 4.0" in one.stdout
    wrong = data("list", "gorpo")
    assert wrong.returncode == 2 and "did you mean gopro" in wrong.stderr


def test_pack_decodes_once(root: Path, named: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMTL_IR_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "v.yaml"
    file.write_text(yaml.dump({"name": "v", "tasks": {"rain": named}, "data": {"patch": 16}}))
    answer = data("pack", file)
    assert answer.returncode == 0, answer.stderr
    assert "rain" in answer.stdout and str(tmp_path / "cache") in answer.stdout.replace("\n", "")
    assert len(list((tmp_path / "cache").glob("packs/*/index.json"))) == 2
