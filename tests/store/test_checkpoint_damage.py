"""Flipped bits, full disks, deaths in the middle of a save: the checkpoint before it stands, and the damage is said."""

from __future__ import annotations

import errno
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

from cmtl_ir.base import files
from cmtl_ir.store import checkpoint
from cmtl_ir.store.checkpoint import CheckpointError, DamagedCheckpoint


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


@pytest.mark.error("store: a full disk while a checkpoint is written")
@pytest.mark.parametrize("file", FILES)
def test_a_full_disk_leaves_the_old_one_intact_and_says_so(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, {"x": torch.ones(3)}, step=1)

    def full(path: Path, mode: str) -> FullDisk:
        return FullDisk(path, mode, room=10 if path.name == file else 1 << 30)

    monkeypatch.setattr(files, "open", full, raising=False)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        checkpoint.save(tmp_path, {"x": torch.ones(500_000)}, step=2)
    monkeypatch.undo()
    for said in (file, "step 2", "The one before is intact", "step-000000001", "Free 2 MB", "same command again"):
        assert said in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == ["step-000000001"]
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None and loaded.step == 1


@pytest.mark.error("store: a file in place of the folder of checkpoints")
def test_a_folder_that_is_a_file_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match=r"checkpoints.*resumes from the start"):
        checkpoint.save(tmp_path / "checkpoints", {}, step=2)


SAVER = """
import sys, torch
from pathlib import Path
from cmtl_ir.store import checkpoint
folder, stop_at = Path(sys.argv[1]), sys.argv[2]
checkpoint.save(folder, {"x": torch.ones(1000)}, step=1)
write = checkpoint.write_flushed
def slow(path, chunks):
    if path.name == stop_at:
        path.write_bytes(b"half")
        print("writing", flush=True)
        sys.stdin.read()
    return write(path, chunks)
checkpoint.write_flushed = slow
checkpoint.save(folder, {"x": torch.zeros(1000)}, step=2)
"""


@pytest.mark.parametrize("file", ["tensors.safetensors", "SHA256SUMS"])
def test_kill_in_the_middle_of_a_save(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(tmp_path), file], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline().strip() == b"writing"
    process.send_signal(signal.SIGKILL)
    process.communicate()
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
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        "step-000000001",
        "step-000000002",
    ]


@pytest.mark.filterwarnings("error")
def test_readers_never_see_half_a_checkpoint(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from cmtl_ir.store import checkpoint\n"
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


@pytest.mark.error("store: a full disk while weights are written")
def test_weights_survive_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save_weights(path, {"x": torch.ones(3)}, {})
    monkeypatch.setattr(files, "open", lambda path, mode: FullDisk(path, mode, room=10), raising=False)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors.*No space left"):
        checkpoint.save_weights(path, {"x": torch.zeros(3)}, {})
    monkeypatch.undo()
    assert torch.equal(checkpoint.load_weights(path)[0]["x"], torch.ones(3))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.error("store: weights of a run that are missing or cut short")
def test_broken_weights_are_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(CheckpointError, match="there is no weights file"):
        checkpoint.load_weights(path)
    checkpoint.save_weights(path, {"x": torch.ones(3)}, {})
    truncate(path)
    with pytest.raises(DamagedCheckpoint, match="not an intact safetensors file"):
        checkpoint.load_weights(path)


@pytest.mark.error("store: weights of a run with a flipped bit")
def test_every_flipped_bit_of_a_runs_weights_is_found(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint.save_weights(path, {"x": torch.ones(3), "n": torch.tensor(5)}, {"backbone": '{"name": "nafnet"}'})
    content = path.read_bytes()
    for position in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :])
            with pytest.raises(DamagedCheckpoint, match=r"weights\.safetensors .*; copy the file .* --fresh"):
                checkpoint.load_weights(path)


def test_weights_of_earlier_versions_have_no_digest_and_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"x": torch.ones(3)}, path, {"backbone": "{}"})
    weights, metadata = checkpoint.load_weights(path)
    assert torch.equal(weights["x"], torch.ones(3)) and metadata == {"backbone": "{}"}
