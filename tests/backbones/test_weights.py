"""Published weights load by key from every wrapper that authors use; otherwise the error names what does not fit."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.base.weights_file import WeightsError
from tests import tiny

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
    "averaged next to raw": (lambda w: {"params": zeros(w), "params_ema": w}, ("params_ema",), ()),
    "averaged under timm's name": (
        lambda w: {"state_dict": zeros(w), "state_dict_ema": prefixed(w, "module.")}, ("state_dict_ema",), ("module.",)
    ),
    "averaged by a helper": (lambda w: {"ema_helper": w, "state_dict": zeros(w)}, ("ema_helper",), ()),
    "averaged in a record": (lambda w: {"model": zeros(w), "ema": {"decay": 0.9, "shadow": w}}, ("ema", "shadow"), ()),
    "averages that were not kept": (lambda w: {"model": w, "model_ema": {}}, ("model",), ()),
    "lightning": (
        lambda w: {"epoch": 120, "state_dict": prefixed(w, "net."), "lr_schedulers": []}, ("state_dict",), ("net.",)
    ),
    "next to an optimizer": (lambda w: {"model": w, "optimizer": {"state": {}}, "epoch": 3}, ("model",), ()),
    "of a generator": (lambda w: {"params_d": zeros(w), "params_g": w}, ("params_g",), ()),
    "by PyTorch's tutorial": (lambda w: {"model_state_dict": w, "optimizer_state_dict": {}}, ("model_state_dict",), ()),
    "of a compiled network": (lambda w: {"network": prefixed(w, "_orig_mod.")}, ("network",), ("_orig_mod.",)),
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


def test_the_report_says_what_was_taken_and_what_was_not(weights: Weights, tmp_path: Path) -> None:
    torch.save({"state_dict": zeros(weights), "state_dict_ema": prefixed(weights, "net.")}, tmp_path / "w.pth")
    said = str(backbones.load_weights(fresh(), tmp_path / "w.pth"))
    assert f"{len(weights)} tensors of {tmp_path / 'w.pth'}" in said
    assert "from `state_dict_ema`, not from `state_dict`, without the prefix `net.`" in said


@pytest.mark.parametrize("prefix", ["netG.", "generator."])
def test_a_generator_loads_without_its_discriminator(weights: Weights, tmp_path: Path, prefix: str) -> None:
    torch.save({"state_dict": prefixed(weights, prefix) | prefixed(zeros(weights), "netD.")}, tmp_path / "w.pth")
    model = fresh()
    report = backbones.load_weights(model, tmp_path / "w.pth")
    assert tiny.same(dict(model.state_dict()), weights) and report.left_out == len(weights)
    assert f"without the prefix `{prefix}`; {len(weights)} tensors of other networks left out" in str(report)


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_the_content_of_a_file_decides_not_its_name(
    weights: Weights, tmp_path: Path, save: Callable[..., None], suffix: str
) -> None:
    save(weights, tmp_path / f"weights{suffix}")
    model = fresh()
    backbones.load_weights(model, tmp_path / f"weights{suffix}")
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_weights_load_from_safetensors(weights: Weights, tmp_path: Path) -> None:
    save_file(prefixed(weights, "module."), tmp_path / "weights.safetensors")
    model = fresh()
    backbones.load_weights(model, str(tmp_path / "weights.safetensors"))
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


PUBLISHED = {
    "adair": ("state_dict", "net."),
    "dehazeformer": ("state_dict", "module."),
    "dgunet": ("state_dict", "module."),
    "dgunet_plus": ("state_dict", "module."),
    "fsnet": ("model", ""),
    "grl": ("state_dict", "model."),
    "hair": ("state_dict", "net."),
    "mprnet": ("state_dict", "module."),
    "promptir": ("state_dict", "net."),
    "weather_diffusion": ("ema_helper", "module."),
}
"""Mapping and prefix of the authors' files where they are known; `params` without a prefix otherwise."""


@pytest.mark.parametrize("name", CASES)
def test_every_network_loads_its_authors_file(name: str, tmp_path: Path) -> None:
    wrapper, prefix = PUBLISHED.get(CASES[name].name, ("params", ""))
    taught, model = CASES[name].build(torch.float32), backbones.build(CASES[name].name, **CASES[name].fields)
    torch.save({wrapper: prefixed(taught.state_dict(), prefix)}, tmp_path / "weights.pth")
    report = backbones.load_weights(model, tmp_path / "weights.pth")
    assert tiny.same(taught.state_dict(), model.state_dict())
    assert (report.wrappers, report.prefixes) == ((wrapper,), (prefix,) if prefix else ())
    assert f"from `{wrapper}`" in str(report) and (f"without the prefix `{prefix}`" in str(report)) == bool(prefix)


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


@pytest.mark.error("weights: wrong keys")
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


@pytest.mark.error("weights: of another width")
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


def changed(key: str, change: Callable[[Tensor], Tensor]) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, key: change(weights[key])}


def with_value(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.flatten().index_fill(0, torch.tensor([1]), value).view_as(tensor)


BIAS = "intro.bias"
SAVED: dict[str, tuple[Callable[[Weights], Any], list[str]]] = {
    # cause: (what is saved, what the message says)
    "a list": (lambda w: [1, 2], ["expected named tensors, found list", "state_dict"]),
    "a number among the tensors": (lambda w: {"model_name": 1, **w}, ["no tensors: model_name", "state_dict"]),
    "an empty mapping": (lambda w: {"params": {}}, ["found an empty mapping", "state_dict"]),
    "integer keys": (lambda w: dict(enumerate(w.values())), ["no names of tensors: 0, 1", "state_dict"]),
    "NaN": (changed(BIAS, with_value(float("nan"))), [f"1 tensors with NaN or infinity: {BIAS}", "fetch"]),
    "an infinity": (changed(BIAS, with_value(float("-inf"))), [f"1 tensors with NaN or infinity: {BIAS}", "fetch"]),
    "complex numbers": (
        changed(BIAS, lambda t: t.to(torch.complex64)), [f"{BIAS} is complex64 instead of floating-point", "fetch"]
    ),
    "booleans": (changed(BIAS, lambda t: t > 0), [f"{BIAS} is bool instead of floating-point", "fetch"]),
    "integers": (changed(BIAS, lambda t: t.to(torch.int8)), [f"{BIAS} is integer instead of floating-point", "fetch"]),
    "a sparse tensor": (changed(BIAS, lambda t: t.to_sparse()), [f"{BIAS} is sparse instead of", "fetch"]),
    "tensors without data": (changed(BIAS, lambda t: t.to("meta")), [f"{BIAS} is without data instead of", "fetch"]),
}  # fmt: skip


@pytest.mark.parametrize("cause", [pytest.param(one, marks=pytest.mark.error(f"weights: {one}")) for one in SAVED])
def test_what_is_saved_but_cannot_be_weights_is_refused(weights: Weights, tmp_path: Path, cause: str) -> None:
    made, words = SAVED[cause]
    torch.save(made(weights), tmp_path / "weights.pth")
    message = refused(fresh(), tmp_path / "weights.pth")
    assert all(word in message for word in words), message


def tar(weights: Weights, file: Path) -> None:
    torch.save(weights, file.with_suffix(".inner"))
    with tarfile.open(file, "w") as archive:
        archive.add(file.with_suffix(".inner"))


WRITTEN: dict[str, tuple[Callable[[Weights, Path], Any], list[str]]] = {
    # cause: (what writes the file, what the message says)
    "no file": (lambda w, file: None, ["no such file", "give a file"]),
    "a folder": (lambda w, file: file.mkdir(), ["is not a file", "give a file"]),
    "an empty file": (lambda w, file: file.touch(), ["is empty", "fetch it again"]),
    "a git-lfs pointer": (
        lambda w, file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        ["git-lfs pointer", "git lfs pull"],
    ),
    "a web page": (lambda w, file: file.write_text("\n<!DOCTYPE html><html></html>"), ["web page", "download link"]),
    "plain text": (lambda w, file: file.write_text("weights: see below\n"), ["text file", ".safetensors"]),
    "a tar archive": (tar, ["tar archive", "unpack it"]),
    "a compressed archive": (lambda w, file: file.write_bytes(gzip.compress(b"x" * 99)), ["compressed", "unpack it"]),
    "a Keras file": (lambda w, file: file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), ["HDF5", "PyTorch weights"]),
    "noise": (
        lambda w, file: file.write_bytes(bytes(range(256)) * 9),
        ["not a readable weights file", "fetch it again"],
    ),
}


@pytest.mark.parametrize("cause", [pytest.param(one, marks=pytest.mark.error(f"weights: {one}")) for one in WRITTEN])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind_is_refused(weights: Weights, tmp_path: Path, cause: str, suffix: str) -> None:
    write, words = WRITTEN[cause]
    file = tmp_path / f"weights{suffix}"
    write(weights, file)
    message = refused(fresh(), file)
    if cause == "noise" and suffix == ".safetensors":
        words = ["not a readable safetensors file", "fetch it again"]
    assert all(word in message for word in words), message


@torch.no_grad()
def test_infinities_that_belong_to_the_network_are_accepted(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    assert backbones.load_weights(model, tmp_path / "weights.pth").tensors == 3


class Tempting:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/cmtl_ir_was_here"),))


@pytest.mark.error("weights: Python objects next to tensors")
def test_code_in_a_file_is_not_run(weights: Weights, tmp_path: Path) -> None:
    torch.save({"state_dict": weights, "callbacks": Tempting()}, tmp_path / "weights.ckpt")
    message = refused(fresh(), tmp_path / "weights.ckpt")
    assert "holds objects next to tensors (" in message and "never unpickled" in message
    assert "tensors alone" in message and "weights_only" not in message
    assert not Path("/tmp/cmtl_ir_was_here").exists()
