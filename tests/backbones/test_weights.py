"""Published weights load by key from every wrapper that authors use, or the error says what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.backbones._weights import WeightsError

from .cases import CASES

Weights = dict[str, Tensor]


def fresh() -> nn.Module:
    return backbones.build("nafnet", width=4, encoder=[1], decoder=[1])


@pytest.fixture
def weights() -> Weights:
    torch.manual_seed(7)
    return {key: torch.randn_like(value) for key, value in fresh().state_dict().items()}


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {prefix + key: value for key, value in weights.items()}


def zeros(weights: Weights) -> Weights:
    return {key: torch.zeros_like(value) for key, value in weights.items()}


WRAPPED: dict[str, tuple[Callable[[Weights], Any], tuple[str, ...], tuple[str, ...]]] = {
    "raw": (lambda w: w, (), ()),
    "params": (lambda w: {"params": w}, ("params",), ()),
    "averaged beside raw": (lambda w: {"params": zeros(w), "params_ema": w}, ("params_ema",), ()),
    "lightning": (
        lambda w: {"epoch": 120, "state_dict": prefixed(w, "net."), "lr_schedulers": []}, ("state_dict",), ("net.",)
    ),
    "beside an optimizer": (lambda w: {"model": w, "optimizer": {"state": {}}, "epoch": 3}, ("model",), ()),
    "data parallel": (lambda w: prefixed(w, "module."), (), ("module.",)),
    "both at once": (
        lambda w: {"state_dict": {"params": prefixed(w, "module.net.")}}, ("state_dict", "params"), ("module.", "net.")
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_weights_load_from_every_wrapper(weights: Weights, tmp_path: Path, wrapping: str) -> None:
    wrap, wrappers, prefixes = WRAPPED[wrapping]
    file = tmp_path / "weights.pth"
    torch.save(wrap(weights), file)
    model = fresh()
    report = backbones.load_weights(model, file)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert (report.path, report.tensors, report.wrappers, report.prefixes) == (file, len(weights), wrappers, prefixes)


def test_weights_load_from_safetensors(weights: Weights, tmp_path: Path) -> None:
    save_file(prefixed(weights, "module."), tmp_path / "weights.safetensors")
    model = fresh()
    backbones.load_weights(model, str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_every_network_loads_its_own_weights(name: str, tmp_path: Path) -> None:
    taught, model = CASES[name].build(torch.float32), backbones.build(CASES[name].name, **CASES[name].fields)
    torch.save({"params": taught.state_dict()}, tmp_path / "weights.pth")
    backbones.load_weights(model, tmp_path / "weights.pth")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in taught.state_dict().items())


def test_a_part_called_net_is_no_wrapper(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("net", nn.Linear(2, 2))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    assert backbones.load_weights(model, tmp_path / "weights.pth").prefixes == ()


def test_airnet_takes_the_queue_of_another_number_of_degradations(tmp_path: Path) -> None:
    three: Any = backbones.build("airnet", groups=1, blocks=1, contrast_batch=3)
    torch.save(three.state_dict(), tmp_path / "weights.pth")
    model: Any = backbones.build("airnet", groups=1, blocks=1, contrast_batch=5)
    backbones.load_weights(model, tmp_path / "weights.pth")
    assert torch.equal(model.E.E.queue, three.E.E.queue)


@torch.no_grad()
def test_swinir_takes_the_masks_of_another_training_size(tmp_path: Path) -> None:
    fields = {**CASES["swinir"].fields, "drop_path": 0.0}
    trained = backbones.build("swinir", **{**fields, "image_size": 32})
    torch.save({"params": trained.state_dict()}, tmp_path / "weights.pth")
    model = backbones.build("swinir", **fields)
    backbones.load_weights(model, tmp_path / "weights.pth")
    x = torch.rand(1, 3, 20, 20)
    assert torch.equal(model(x), trained(x))


# -------------------------------------------------------------------------------------------------------- refusals


def refused(model: nn.Module, file: Path) -> str:
    """The message of the refusal, after which the model is as it was and the message names the file."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        backbones.load_weights(model, file)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_wrong_keys_are_named(weights: Weights, tmp_path: Path) -> None:
    weights["extra.weight"] = weights.pop("intro.weight")
    torch.save(weights, tmp_path / "weights.pth")
    message = refused(fresh(), tmp_path / "weights.pth")
    assert "1 missing: intro.weight" in message
    assert "1 unexpected: extra.weight" in message
    assert "NAFNet" in message


def test_many_wrong_keys_are_counted(weights: Weights, tmp_path: Path) -> None:
    torch.save({"intro.weight": weights["intro.weight"]}, tmp_path / "weights.pth")
    assert f"and {len(weights) - 1 - 5} more" in refused(fresh(), tmp_path / "weights.pth")


def test_another_width_is_named_by_its_shapes(tmp_path: Path) -> None:
    torch.save(backbones.build("nafnet", width=8, encoder=[1], decoder=[1]).state_dict(), tmp_path / "weights.pth")
    assert "intro.weight (8, 3, 3, 3) instead of (4, 3, 3, 3)" in refused(fresh(), tmp_path / "weights.pth")


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(weights: Weights, tmp_path: Path, suffix: str, kept: float) -> None:
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(weights, file)
    else:
        torch.save(weights, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    refused(fresh(), file)


def test_no_file_no_tensors_and_strange_entries_are_refused(weights: Weights, tmp_path: Path) -> None:
    assert "no such file" in refused(fresh(), tmp_path / "nothing.pth")
    for content, message in [
        ([1, 2], "expected named tensors, found list"),
        ({"model_name": "x", **weights}, "these entries are no tensors: model_name"),
        ({"params": {}}, "expected named tensors"),
    ]:
        torch.save(content, tmp_path / "weights.pth")
        assert message in refused(fresh(), tmp_path / "weights.pth")


class Tempting:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/cmtl_ir_was_here"),))


def test_code_in_a_file_is_not_run(weights: Weights, tmp_path: Path) -> None:
    torch.save({"state_dict": weights, "callbacks": Tempting()}, tmp_path / "weights.ckpt")
    assert "holds objects beside tensors" in refused(fresh(), tmp_path / "weights.ckpt")
    assert not Path("/tmp/cmtl_ir_was_here").exists()
