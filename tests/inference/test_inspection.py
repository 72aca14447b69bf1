"""A file of weights is recognized: its wrapper, its backbone, and the fields that its shapes decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir import backbones
from cmtl_ir.cli import main
from cmtl_ir.inference.inspection import inspect
from cmtl_ir.inference.published import published

FIELDS: dict[str, dict[str, Any]] = {
    "nafnet": {"width": 6, "encoder": [2, 1], "middle": 2, "decoder": [1, 3]},
    "unet": {"widths": [4, 6, 8, 10], "blocks": 1},
    "srresnet": {"width": 8, "blocks": 3, "prompt": "explicit", "tasks": 5},
}


def saved(file: Path, name: str, prefix: str = "", **others: Any) -> Path:
    """A checkpoint of a network of these fields, under `params_ema`."""
    weights = {prefix + key: value for key, value in backbones.build(name, **FIELDS[name]).state_dict().items()}
    torch.save({"params_ema": {**weights, **others}, "params": {}}, file)
    return file


@pytest.mark.parametrize("name", ["srresnet", "unet"])
def test_the_fields_are_inferred_from_the_shapes(name: str, tmp_path: Path) -> None:
    found = inspect(saved(tmp_path / "w.pth", name, "module."), [name])
    assert found.fits and found.fit is not None and found.fit.prefixes == ("module.",)
    assert {key: found.fit.fields[key] for key in FIELDS[name]} == FIELDS[name]
    assert (found.wrappers, found.passed_over, found.not_finite) == (("params_ema",), ("params",), ())
    _, file, _, backbone, *fields = found.options
    published(file, backbone, fields[1::2]).model(torch.device("cpu"))  # raises if a key does not fit


def test_the_backbone_is_found_among_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "w.pth", "nafnet")
    with pytest.raises(SystemExit) as ended:
        main(
            ["inspect", str(file), *["--backbone", "srresnet", "--backbone", "unet", "--backbone", "nafnet", "--keys"]]
        )
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "nafnet fits every key and shape" in said and "intro.weight 6x3x3x3" in said
    assert "taken from `params_ema`, not from `params`" in said and "no shape depends on local_training_size" in said
    assert f"--weights {file} --backbone nafnet --set width=6 --set 'encoder=[2,1]'" in said


def test_what_does_not_fit_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "w.pth", "srresnet", extra=torch.tensor([float("nan")]))
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(file), "--backbone", "srresnet"])
    said = capsys.readouterr().out
    assert ended.value.code == 1 and "none fits; the nearest is srresnet with width=8" in said
    assert "1 unexpected: extra" in said and "1 tensors hold NaN or infinity: extra" in said


def test_a_file_of_no_known_network_is_called_that(tmp_path: Path) -> None:
    torch.save({"strange": torch.zeros(3)}, tmp_path / "w.pth")
    found = inspect(tmp_path / "w.pth", ["srresnet", "unet"])
    assert found.fit is None and not found.fits and found.options == []
