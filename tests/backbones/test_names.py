"""Backbones are found by name, in a file or through an entry point, and are imported only when needed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from torch import nn

from cmtl_ir import backbones


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_every_name_gives_a_module_class(name: str) -> None:
    cls = backbones.backbone_class(name)
    assert issubclass(cls, nn.Module)
    assert cls.__name__.lower() == name.replace("_", "")


@pytest.mark.error("backbone: an unknown name")
@pytest.mark.parametrize(("wrong", "meant"), [("nafnett", "nafnet"), ("promptIR", "promptir"), ("swin", "swinir")])
def test_an_unknown_name_is_answered_with_near_ones(wrong: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"unknown backbone '{wrong}'.*{meant}"):
        backbones.backbone_class(wrong)


@pytest.mark.error("backbone: a file that does not hold the class")
def test_a_class_in_a_file_is_a_backbone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\nclass Mine(nn.Module):\n    def __init__(self, *, width: int = 2):\n"
        "        super().__init__()\n        self.width = width\n"
    )
    assert backbones.build(f"{file}:Mine", width=5).width == 5
    with pytest.raises(ValueError, match="no class 'Mime'; did you mean Mine"):
        backbones.backbone_class(f"{file}:Mime")
    with pytest.raises(ValueError, match="no file"):
        backbones.backbone_class(f"{tmp_path}/yours.py:Mine")


def test_another_package_offers_a_backbone_through_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = EntryPoint("guest", "torch.nn:Identity", backbones.ENTRY_POINT_GROUP)
    monkeypatch.setattr(backbones, "entry_points", lambda group, name="guest": [guest] if name == "guest" else [])
    assert backbones.backbone_class("guest") is nn.Identity
    assert "guest" in backbones.names()


def test_naming_backbones_imports_no_network() -> None:
    program = (
        "import sys; from cmtl_ir import backbones; backbones.names(); "
        "loaded = [name for name in sys.modules if name.startswith('cmtl_ir.backbones.') or name == 'torch']; "
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
