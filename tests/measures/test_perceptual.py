"""LPIPS, NIQE and BRISQUE: what we ask of pyiqa, which a stand-in plays here, and errors that say the way out."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor

from cmtl_ir import cli
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.measures.metric import Metric, metrics_from
from tests import tiny

CPU = torch.device("cpu")
NAMES = ("lpips", "niqe", "brisque")


def ready(name: str) -> Metric:
    """A metric that has loaded its network."""
    _, metric = metrics_from(["psnr", name])
    metric.prepare(CPU)
    return metric


class StandIn:
    """pyiqa.create_metric as its documentation describes it: [1, 3, H, W] in [0, 1] once or twice -> [1, 1]."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, ...]] = []
        self.safely: list[str | None] = []

    def create_metric(self, name: str, device: torch.device) -> Any:
        self.safely.append(os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD"))

        def metric(*images: Tensor) -> Tensor:
            self.seen.append(images)
            other = images[1] if len(images) == 2 else torch.zeros_like(images[0])
            return (images[0] - other).abs().mean().reshape(1, 1)

        return metric


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "pyiqa", stand_in)  # type: ignore[arg-type]
    return stand_in


def image(seed: int) -> Tensor:
    return torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1


@pytest.mark.parametrize(("name", "images"), [("lpips", 2), ("niqe", 1), ("brisque", 1)])
def test_a_metric_is_shown_what_it_compares(pyiqa: StandIn, name: str, images: int) -> None:
    score = ready(name)(image(0), image(1), "mio")
    (seen,) = pyiqa.seen
    assert score.shape == (1,) and len(seen) == images
    for one, given in zip(seen, (image(0), image(1)), strict=False):
        levels = one * 255
        assert (levels - levels.round()).abs().max() < 1e-4 and one.min() >= 0 and one.max() <= 1
        assert (one - given.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6


def test_of_all_three_less_is_better() -> None:
    assert all(metric.scale.sign == -1 for metric in metrics_from(["psnr", *NAMES])[1:])


def test_weights_are_never_unpickled(pyiqa: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    ready("lpips")
    assert pyiqa.safely == ["1"] and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    torch.save(SimpleNamespace(a=1), tmp_path / "w.pth")
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):  # torch still honours the variable
        torch.load(tmp_path / "w.pth", weights_only=False)


@pytest.mark.error("metric: a missing package")
def test_without_pyiqa_the_error_is_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(UserError, match=r"lpips needs pyiqa .*pip install 'cmtl-ir\[metrics\]'"):
        ready("lpips")


@pytest.mark.error("metric: missing weights")
@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("invalid hash"), FileNotFoundError("niqe.mat")])
def test_missing_weights_are_told_with_their_folder(
    pyiqa: StandIn, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(name: str, device: torch.device) -> None:
        raise error

    monkeypatch.setattr(pyiqa, "create_metric", fail)
    with pytest.raises(UserError, match=r"niqe: pyiqa has no weights in .*pyiqa and could not fetch them"):
        ready("niqe")


@pytest.mark.error("metric: an unknown name")
def test_an_unknown_metric_gets_near_names() -> None:
    with pytest.raises(UserError, match="did you mean lpips"):
        metrics_from(["psnr", "lpisp"])


def test_evaluate_adds_a_column_a_metric(pyiqa: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cmtl_ir import backbones

    torch.save(backbones.build("srresnet", width=4, blocks=1).state_dict(), tmp_path / "w.pth")
    (tmp_path / "tiny.yaml").write_text(yaml.dump(tiny.RAW))
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["evaluate", "--weights", str(tmp_path / "w.pth"), "--backbone", "srresnet", "--set", "backbone.width=4",
             "--set", "backbone.blocks=1", "--file", str(tmp_path / "tiny.yaml"), "--set", "data.test_limit=1",
             "--metric", "lpips", "--metric", "niqe", "--csv", str(tmp_path / "s.csv")]
        )  # fmt: skip
    assert ended.value.code in (0, None), capsys.readouterr().err
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert {"lpips", "lpips_input", "niqe", "niqe_input"} <= set(rows[0]) and "brisque" not in rows[0]
    assert all(float(row["lpips_input"]) > 0 for row in rows)
    shown = capsys.readouterr().out
    assert [shown.lower().count(name) for name in NAMES] == [2, 2, 0]
