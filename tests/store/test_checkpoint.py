"""A checkpoint exists whole or not at all, and what comes back is what went in, to the last bit."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cmtl_ir.store import checkpoint
from cmtl_ir.store.checkpoint import CheckpointError
from cmtl_ir.training import optimization

# ------------------------------------------------------------------------------------------------ round trips


def same(a: Any, b: Any) -> bool:
    """Equal in type, value (NaN equals NaN, 0.0 is not -0.0), order of keys, and bits of tensors."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        raw = (x.contiguous().reshape(-1).view(torch.uint8) for x in (a, b))
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*raw)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a.hex() == b.hex() if isinstance(a, float) else a == b


def round_trip(folder: Path, tree: dict[str, Any]) -> dict[str, Any]:
    checkpoint.save(folder, tree, step=1)
    loaded = checkpoint.load_latest(folder)
    assert loaded is not None
    return loaded.tree


TREES: dict[str, dict[str, Any]] = {
    "empty": {},
    "empty branches": {"a": {}, "b": [], "c": ()},
    "words": {"text": "a/b\n\u2028 ü \ud800", "none": None, "yes": True, "no": False, "": ""},
    "ints": {"small": -1, "wide": [2**63 - 1, -(2**63), 2**63, 2**64 - 1, -(2**100), 10**5000]},
    "floats": {"all": [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan, 1 / 3]},
    "int keys": {"state": {0: {"step": 1.0}, 1: {}, -5: 2}, "mixed": {"0": "text", 0: "number"}},
    "marker as key": {"$": {"$": "tensor", "name": "x"}, "deep": [{"$": [1, (2,)]}]},
    "name clashes": {"a": {"b/c": torch.ones(1), "b": {"c": torch.zeros(1)}}, "a/b": {"c": torch.tensor([2.0])}},
    "reserved": {"__metadata__": torch.ones(2)},
    "tensor keys": {"m": {0: torch.ones(1), "0": torch.zeros(1)}},
    "stage": {"rows": {"memory:rain": {"ids": [3, 1, 2], "share": 0.25}}, "betas": (0.9, 0.999)},
}


@pytest.mark.parametrize("name", TREES)
def test_tree_comes_back_exactly(name: str, tmp_path: Path) -> None:
    assert same(round_trip(tmp_path, TREES[name]), TREES[name])


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5, 7), (2, 3, 4, 5)], ids=str)
def test_tensor_comes_back_bit_for_bit(dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path) -> None:
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    assert same(round_trip(tmp_path, {"x": tensor}), {"x": tensor})


def test_not_a_number_keeps_its_bits(tmp_path: Path) -> None:
    bits = torch.tensor([0x7FC00001, -1, 0x7F800000, -0x80000000, 1], dtype=torch.int64).to(torch.int32)
    assert same(round_trip(tmp_path, {"x": bits.view(torch.float32)}), {"x": bits.view(torch.float32)})


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 1),
    "permuted": lambda x: x.permute(3, 1, 0, 2),
    "depthwise": lambda x: x[:, :1].clone().contiguous(memory_format=torch.channels_last),
    "pointwise": lambda x: x[..., :1, :1].clone().contiguous(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_come_back(layout: str, tmp_path: Path) -> None:
    tensor = LAYOUTS[layout](torch.arange(120.0).reshape(2, 3, 4, 5))
    loaded = round_trip(tmp_path, {"x": tensor})["x"]
    assert loaded.stride() == tensor.stride() and torch.equal(loaded, tensor)


def test_views_are_saved_as_what_they_show_and_come_back_apart(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    tree = {"base": base, "row": base[:4], "every second": base[::2], "expanded": base[:1].expand(3, 4), "again": base}
    loaded = round_trip(tmp_path, tree)
    assert same(loaded, tree)
    loaded["base"].zero_()
    assert torch.equal(loaded["again"], base) and torch.equal(loaded["row"], base[:4])


def test_parameters_are_saved_without_their_graph(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    assert not round_trip(tmp_path, {"x": parameter, "y": parameter * 2})["y"].requires_grad


@pytest.mark.parametrize("leaf", [{1, 2}, object(), torch.ones(2).to_sparse(), torch.ones(1, dtype=torch.complex64)])
def test_what_cannot_be_saved_is_named_by_its_path(leaf: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="parts/retention/1"):
        checkpoint.save(tmp_path, {"parts": {"retention": [0, leaf]}}, step=0)
    assert checkpoint.newest_step(tmp_path) is None


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adam, amsgrad": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    def network() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 3, 1)]
        return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(number))
            optimizer.zero_grad()
            (model(images.to(memory_format=torch.channels_last)) - images).abs().mean().backward()
            optimizer.step()

    unbroken, resumed = network(), network()
    optimizer = OPTIMIZERS[name](unbroken.parameters())
    steps(unbroken, optimizer, range(5))
    tree = {"model": unbroken.state_dict(), "optimizer": optimization.optimizer_tree(optimizer)}
    loaded = round_trip(tmp_path, tree)
    steps(unbroken, optimizer, range(5, 9))
    resumed.load_state_dict(loaded["model"])
    again = OPTIMIZERS[name](resumed.parameters())
    optimization.load_optimizer(again, loaded["optimizer"])
    before = str(loaded["optimizer"])
    steps(resumed, again, range(5, 9))
    assert same(dict(unbroken.state_dict()), dict(resumed.state_dict()))
    assert same(optimizer.state_dict(), again.state_dict())
    assert str(loaded["optimizer"]) == before


# ------------------------------------------------------------------------------------------- which one is kept


def steps_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 100):
        checkpoint.save(tmp_path, {"x": step}, step=step, keep=2)
    assert steps_in(tmp_path) == ["step-000000010", "step-000000100"]
    assert checkpoint.newest_step(tmp_path) == 100
    checkpoint.save(tmp_path, {"x": 0}, step=200, keep=1)
    assert steps_in(tmp_path) == ["step-000000200"]


def test_an_abandoned_future_is_removed(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, {"x": step}, step=step, keep=5)
    checkpoint.save(tmp_path, {"x": "anew"}, step=2, keep=5)
    assert steps_in(tmp_path) == ["step-000000001", "step-000000002.1"]
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded.tree == {"x": "anew"} and loaded.step == 2


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path / "missing") is None
    assert checkpoint.newest_step(tmp_path / "missing") is None


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"step": -1}])
def test_senseless_numbers_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least"):
        checkpoint.save(tmp_path, {}, step=wrong.get("step", 1), keep=wrong.get("keep", 2))


@pytest.mark.error("store: a checkpoint of another run")
def test_another_runs_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {}, step=7, metadata={"config": "aaa"})
    assert checkpoint.load(path, expect={"config": "aaa"}).metadata == {"config": "aaa"}
    for load, place in ((checkpoint.load, path), (checkpoint.load_latest, tmp_path)):
        with pytest.raises(CheckpointError, match=r"step-000000007 .*config is 'aaa', this run's is 'bbb'"):
            load(place, expect={"config": "bbb"})


@pytest.mark.error("store: a checkpoint of a newer version")
def test_newer_formats_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    path = checkpoint.save(tmp_path, {}, step=7)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 2, this version reads 1"):
        checkpoint.load(path)


# ---------------------------------------------------------------------------------------------- what is in it


def test_a_person_and_other_tools_can_read_it(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {"model": {"w": torch.ones(2)}, "lr": 0.1}, step=3, metadata={"run": "abc"})
    state = json.loads((path / "state.json").read_text())
    assert state["step"] == 3 and state["metadata"] == {"run": "abc"} and state["tree"]["lr"] == 0.1
    tensors = safetensors.torch.load_file(path / "tensors.safetensors")
    assert list(tensors) == ["model/w"]
    assert sorted(file.name for file in path.iterdir()) == ["SHA256SUMS", "state.json", "tensors.safetensors"]
    if sys.platform == "linux":
        subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=path, check=True, capture_output=True)


# ----------------------------------------------------------------------------------------------------- weights


def test_weights_are_one_plain_safetensors_file(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = {**model.state_dict(), "tied": model.weight, "half": torch.ones(3).bfloat16(), "n": torch.tensor(5)}
    path = tmp_path / "new" / "weights.safetensors"
    checkpoint.save_weights(path, weights, {"backbone": '{"name": "nafnet"}', "ü": "é"})
    loaded, metadata = checkpoint.load_weights(path)
    assert same({name: loaded[name] for name in weights}, {name: value.detach() for name, value in weights.items()})
    assert metadata == {"backbone": '{"name": "nafnet"}', "ü": "é"}
    assert set(safetensors.torch.load_file(path)) == set(weights)
    checkpoint.save_weights(path, {}, {})
    assert checkpoint.load_weights(path) == ({}, {})
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]
