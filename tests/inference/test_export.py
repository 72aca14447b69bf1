"""A trained network leaves the suite whole: the same images from its files, and a card that says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import cmtl_ir
from cmtl_ir.base.errors import UserError
from cmtl_ir.config.reading import validate
from cmtl_ir.inference import onnx_graph
from cmtl_ir.inference.export import export
from cmtl_ir.inference.published import Published
from cmtl_ir.runs import comparison
from cmtl_ir.strategy.output import final_output
from tests import tiny
from tests.inference.files import command


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison of one small network under PCGrad."""
    out = tmp_path_factory.mktemp("export") / "runs"
    network = {"name": "srresnet", "width": 4, "blocks": 1, "prompt": "explicit", "tasks": 3}
    short = {"training": {"steps": 2, "batch": 3}, "conflict": {"every": 0}, "evaluation": {"every": 0}}
    raw = {**tiny.RAW, "backbone": network, "strategies": {"pc": {"surgery": "pcgrad"}}, **short}
    comparison.run(validate(raw, "tiny"), out, "cpu")
    return out


def test_the_model_of_a_run_is_a_plain_module(done: Path) -> None:
    model = cmtl_ir.load_model("tiny/pc", out=done, device="cpu")
    restored = model(torch.rand(2, 3, 20, 24), torch.tensor([0, 2]))
    assert not model.training and final_output(model, restored).shape == (2, 3, 20, 24)


def test_exported_weights_load_by_name_and_the_card_says_what_they_are(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("export", "tiny/pc", str(tmp_path / "net"), "--out", str(done)) == 0
    assert "128x64 and 64x128" in capsys.readouterr().out
    fields = json.loads((tmp_path / "net/network.json").read_text())
    again = Published(tmp_path / "net/weights.pth", fields["backbone"])
    mine = cmtl_ir.load_model("tiny/pc", out=done, device="cpu").state_dict()
    assert tiny.same(dict(mine), dict(cmtl_ir.load_model(again, device="cpu").state_dict()))
    assert torch.load(tmp_path / "net/weights.pth", weights_only=True).keys() == mine.keys()
    card = (tmp_path / "net/README.md").read_text()
    assert fields["tasks"] == ["noise", "rain", "haze"] and "name: pcgrad" in card and "yu2020" in card.lower()
    assert card.count("no interval: ") == 3 and "Apache-2.0" in card
    with pytest.raises(UserError, match=r"weights\.pth exists; name another folder"):
        export("tiny/pc", tmp_path / "net", out=done)


@torch.no_grad()
def test_an_exported_program_restores_images_of_other_sizes(done: Path, tmp_path: Path) -> None:
    file, *_ = export("tiny/pc", tmp_path / "program", "pt2", out=done)
    images, tasks = torch.rand(3, 3, 40, 56), torch.tensor([0, 1, 2])
    model = cmtl_ir.load_model("tiny/pc", out=done, device="cpu")
    wanted = final_output(model, model(images, tasks)).clamp(0, 1)
    assert torch.allclose(torch.export.load(file).module()(images, tasks), wanted, atol=1e-5)


@torch.no_grad()
def test_an_exported_graph_restores_images_of_other_sizes(done: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    file, *_ = export("tiny/pc", tmp_path / "graph", "onnx", out=done)
    images, tasks = torch.rand(3, 3, 24, 40), torch.tensor([0, 1, 2])
    model = cmtl_ir.load_model("tiny/pc", out=done, device="cpu")
    wanted = final_output(model, model(images, tasks)).clamp(0, 1)
    assert torch.allclose(onnx_graph.read_graph(file)(images, tasks), wanted, atol=1e-5)
    assert [one.name for one in tmp_path.glob("graph/*.data")] == []  # the weights are in the file itself


@pytest.mark.error("export: a missing package")
def test_a_graph_needs_its_packages(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--format onnx needs onnx and onnxscript: pip install 'cmtl-ir\[onnx\]'"):
        export("tiny/pc", tmp_path / "graph", "onnx", out=done)
    assert not (tmp_path / "graph").exists()
