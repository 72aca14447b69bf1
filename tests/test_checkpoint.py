"""A checkpoint exists whole or not at all, and what comes back is what went in, to the last bit."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cmtl_ir import checkpoint
from cmtl_ir.checkpoint import CheckpointError, DamagedCheckpoint

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
    tree = {"model": unbroken.state_dict(), "optimizer": checkpoint.optimizer_tree(optimizer)}
    loaded = round_trip(tmp_path, tree)
    steps(unbroken, optimizer, range(5, 9))
    resumed.load_state_dict(loaded["model"])
    again = OPTIMIZERS[name](resumed.parameters())
    checkpoint.load_optimizer(again, loaded["optimizer"])
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


def test_another_runs_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {}, step=7, metadata={"config": "aaa"})
    assert checkpoint.load(path, expect={"config": "aaa"}).metadata == {"config": "aaa"}
    for load, place in ((checkpoint.load, path), (checkpoint.load_latest, tmp_path)):
        with pytest.raises(CheckpointError, match=r"step-000000007 .*config is 'aaa', this run's is 'bbb'"):
            load(place, expect={"config": "bbb"})


def test_newer_formats_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    path = checkpoint.save(tmp_path, {}, step=7)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 2, this version reads 1"):
        checkpoint.load(path)


# ----------------------------------------------------------------------------------------------------- damage


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


FILES = ["tensors.safetensors", "state.json", "SHA256SUMS"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [flip, truncate, empty, Path.unlink])
def test_a_damaged_newest_falls_back_to_the_one_before(
    file: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, {"x": torch.ones(3)}, step=1)
    newest = checkpoint.save(tmp_path, {"x": torch.zeros(3)}, step=2)
    damage(newest / file)
    if file == "SHA256SUMS" and damage is truncate:  # only the last newline is gone: nothing is lost
        assert checkpoint.load(newest).step == 2
        return
    with pytest.raises(DamagedCheckpoint, match="step-000000002"):
        checkpoint.load(newest)
    with pytest.warns(RuntimeWarning, match="step-000000002 is damaged.*the one before"):
        loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded.step == 1 and torch.equal(loaded.tree["x"], torch.ones(3))
    checkpoint.save(tmp_path, {"x": 5}, step=2)
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded.tree == {"x": 5}


def test_all_damaged_is_a_fresh_start_with_a_warning_for_each(tmp_path: Path) -> None:
    for step in (1, 2):
        empty(checkpoint.save(tmp_path, {}, step=step) / "state.json")
    with pytest.warns(RuntimeWarning) as caught:
        assert checkpoint.load_latest(tmp_path) is None
    assert len(caught) == 2


class FullDisk:
    """A file on a disk that is full after `room` bytes."""

    def __init__(self, path: Path, mode: str, room: int) -> None:
        self.file, self.room = open(path, mode), room  # noqa: SIM115

    def write(self, content: Any) -> None:
        self.room -= len(memoryview(content).cast("B"))
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


@pytest.mark.parametrize("file", FILES)
def test_a_full_disk_leaves_the_old_one_intact_and_says_so(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, {"x": torch.ones(3)}, step=1)

    def full(path: Path, mode: str) -> FullDisk:
        return FullDisk(path, mode, room=10 if path.name == file else 1 << 30)

    monkeypatch.setattr(checkpoint, "open", full, raising=False)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        checkpoint.save(tmp_path, {"x": torch.ones(500_000)}, step=2)
    monkeypatch.undo()
    for said in (file, "step 2", "The one before is intact", "step-000000001", "Free 2 MB", "same command again"):
        assert said in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == ["step-000000001"]
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded.step == 1


def test_a_folder_that_is_a_file_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match=r"checkpoints.*resumes from the start"):
        checkpoint.save(tmp_path / "checkpoints", {}, step=2)


SAVER = """
import sys, torch
from pathlib import Path
from cmtl_ir import checkpoint
folder, stop_at = Path(sys.argv[1]), sys.argv[2]
checkpoint.save(folder, {"x": torch.ones(1000)}, step=1)
write = checkpoint._write
def slow(path, chunks):
    if path.name == stop_at:
        path.write_bytes(b"half")
        print("writing", flush=True)
        sys.stdin.read()
    return write(path, chunks)
checkpoint._write = slow
checkpoint.save(folder, {"x": torch.zeros(1000)}, step=2)
"""


@pytest.mark.parametrize("file", ["tensors.safetensors", "SHA256SUMS"])
def test_kill_in_the_middle_of_a_save(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path), file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline().strip() == b"writing"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert any(path.name.startswith(".saving-") for path in tmp_path.iterdir())
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded.step == 1 and torch.equal(loaded.tree["x"], torch.ones(1000))
    write_files = checkpoint._write_files

    def with_room(place: Path, *arguments: Any) -> None:
        assert [path for path in tmp_path.iterdir() if path.name.startswith(".saving-")] == [place]
        write_files(place, *arguments)

    monkeypatch.setattr(checkpoint, "_write_files", with_room)
    checkpoint.save(tmp_path, {}, step=2)
    assert not any(path.name.startswith(".saving-") for path in tmp_path.iterdir())
    assert steps_in(tmp_path) == ["step-000000001", "step-000000002"]


@pytest.mark.filterwarnings("error")
def test_readers_never_see_half_a_checkpoint(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from cmtl_ir import checkpoint\n"
        "for step in range(1, 60):\n"
        "    checkpoint.save(Path(sys.argv[1]), {'x': torch.full((9,), float(step))}, step=step, keep=99)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    seen = []
    while writer.poll() is None:
        newest = checkpoint.newest_step(tmp_path)
        if newest is not None and (loaded := checkpoint.load_latest(tmp_path)) is not None:
            assert torch.equal(loaded.tree["x"], torch.full((9,), float(loaded.step)))
            seen.append(loaded.step)
        time.sleep(0.01)
    assert writer.returncode == 0 and seen == sorted(seen)


# ---------------------------------------------------------------------------------------------- what is in it


def test_a_person_and_other_tools_can_read_it(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, {"model": {"w": torch.ones(2)}, "lr": 0.1}, step=3, metadata={"run": "abc"})
    state = json.loads((path / "state.json").read_text())
    assert state["step"] == 3 and state["metadata"] == {"run": "abc"} and state["tree"]["lr"] == 0.1
    tensors = safetensors.torch.load_file(path / "tensors.safetensors")
    assert list(tensors) == ["model/w"]
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
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


def test_weights_survive_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save_weights(path, {"x": torch.ones(3)}, {})
    monkeypatch.setattr(checkpoint, "open", lambda path, mode: FullDisk(path, mode, room=10), raising=False)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors.*No space left"):
        checkpoint.save_weights(path, {"x": torch.zeros(3)}, {})
    monkeypatch.undo()
    assert torch.equal(checkpoint.load_weights(path)[0]["x"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [path]


def test_broken_weights_are_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(CheckpointError, match="there is no weights file"):
        checkpoint.load_weights(path)
    checkpoint.save_weights(path, {"x": torch.ones(3)}, {})
    truncate(path)
    with pytest.raises(DamagedCheckpoint, match="not an intact safetensors file"):
        checkpoint.load_weights(path)
