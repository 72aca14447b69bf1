"""`data verify` reports every planted fault with the name of its file, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cmtl_ir import cli
from cmtl_ir.base import yaml
from cmtl_ir.config import reading
from cmtl_ir.tasks.datasets.table import LAYOUTS
from cmtl_ir.tasks.verification import Finding, verify
from tests.tasks.files import folder_of, pattern, truncate, write
from tests.tasks.trees import tree


def found_of(task: dict[str, Any], **data: Any) -> dict[str, Finding]:
    raw = {"name": "v", "tasks": {"rain": task}, "data": {"patch": 16, **data}}
    experiment = reading.validate(raw, "v")
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
        f"several clean partners: {root / 'input' / 'name9.png'} matches name9.bmp and name9.png",
        "94 usable where 100 were published",
    ):
        assert words in problems, problems
    assert len(finding.problems) == 7 and finding.notes == [f"not an image: {root / 'input' / 'Thumbs.db'}"]


def test_images_smaller_than_a_crop_are_named(root: Path, named: dict[str, Any]) -> None:
    finding = found_of(named, patch=64)["rain.train"]
    assert finding.problems[0] == f"smaller than a crop of 64x64: {root / 'input' / 'name0.png'}"


def test_files_that_no_pattern_fits_are_told_apart(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path / "all", ["x_real.png", "x_mean.png", "y.png"]))
    pairs = {"input": folder, "target": folder, "input_name": "{name}_real", "target_name": "{name}_mean"}
    finding = found_of(pairs)["rain.train"]
    assert (finding.found, finding.problems) == (1, [])
    assert finding.notes == [f"matches no pattern: {tmp_path / 'all' / 'y.png'}"]


def test_every_split_is_looked_at(tmp_path: Path, root: Path) -> None:
    tree(root, LAYOUTS["rain100h"].forms("train")[0], 2)
    assert set(found_of({"dataset": "rain100h", "root": str(root)})) == {"rain.train", "rain.test"}
    photos = str(folder_of(tmp_path / "photos", ["a.png", "b.png"]))
    noise = {"degradation": "gaussian_noise", "test": {"clean": photos}, "val": {"clean": photos}}
    assert list(found_of(noise)) == ["data.clean", "rain.val", "rain.test"]
    assert list(found_of({**noise, "clean": photos}, test=photos)) == ["rain.train", "rain.val", "rain.test"]
    assert list(found_of({"degradation": "haze"}, val=0.2, test=photos)) == ["data.clean", "data.test"]


def test_what_no_run_would_open_is_not_asked_for(tmp_path: Path) -> None:
    """Test images of a set that serves training alone; clean images of tasks that have their own."""
    tree(tmp_path / "DIV2K", LAYOUTS["div2k"].forms("train")[0], 2)
    div2k, photos = {"dataset": "div2k", "root": str(tmp_path / "DIV2K")}, str(folder_of(tmp_path / "p", ["a.png"]))
    haze = {"degradation": "haze"}
    assert list(found_of(haze, clean=div2k, test=photos)) == ["data.clean", "data.test"]
    assert list(found_of({**haze, "clean": div2k})) == ["rain.train", "rain.test"]
    assert list(found_of({**haze, "clean": div2k}, test=photos, train=photos)) == ["data.test", "rain.train"]
    assert list(found_of(haze, train=photos, clean=div2k)) == ["data.train", "data.clean"]
    assert "no test images" in found_of(haze, clean=div2k)["data.clean"].problems[0]


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


class Answer(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def data(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run `cmtl-ir data ...`."""

    def run(*arguments: str | Path) -> Answer:
        code = 0
        try:
            cli.main(["data", *map(str, arguments)])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def file(named: dict[str, Any], tmp_path: Path) -> Path:
    """An experiment file that names Rain100H."""
    path = tmp_path / "v.yaml"
    path.write_text(yaml.dump({"name": "v", "tasks": {"rain": named}, "data": {"patch": 16}}))
    return path


def test_verify_ends_with_1_when_something_is_wrong(data: Callable[..., Answer], root: Path, file: Path) -> None:
    well = data("verify", file)
    assert well.code == 0 and "100 of 100 published, ok" in well.out, well
    for number in range(5):
        truncate(root / "input" / f"name{number}.png")
    wrong = data("verify", file, "--limit", "2")
    assert wrong.code == 1 and "NOT ok" in wrong.out and "6 problems" in wrong.out, wrong
    assert "name1.png" in wrong.out and "name2.png" not in wrong.out and "and 4 more" in wrong.out
    assert "name2.png" in data("verify", file, "--limit", "0").out


def test_list_shows_the_table_and_where_a_set_is_looked_for(data: Callable[..., Answer]) -> None:
    table = data("list")
    assert table.code == 0 and all(name in table.out for name in LAYOUTS)
    one = data("list", "gopro")
    assert "train 2103: train/{scene}/blur/{frame} with train/{scene}/sharp/{frame}" in one.out
    assert "CC BY 4.0" in one.out
    wrong = data("list", "gorpo")
    assert wrong.code == 2 and "did you mean gopro" in wrong.err


def test_pack_decodes_once(
    data: Callable[..., Answer], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMTL_IR_CACHE", str(tmp_path / "cache"))
    answer = data("pack", file)
    assert answer.code == 0, answer.err
    assert "rain" in answer.out and str(tmp_path / "cache") in answer.out.replace("\n", "")
    packs = sorted((tmp_path / "cache").glob("packs/*/pixels-*"))
    assert len(packs) == 2
    assert data("pack", file).code == 0 and sorted((tmp_path / "cache").glob("packs/*/pixels-*")) == packs


def test_a_broken_image_stops_packing_by_name(data: Callable[..., Answer], root: Path, file: Path) -> None:
    truncate(root / "target" / "name7.png")
    answer = data("pack", file)
    assert answer.code == 2 and f"{root / 'target' / 'name7.png'}" in answer.err and "on_error: skip" in answer.err
    assert data("pack", file, "--set", "data.on_error=skip").code == 0
