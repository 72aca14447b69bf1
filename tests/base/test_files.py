"""Files are whole or absent, and what killed processes leave of them is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cmtl_ir.base import files
from cmtl_ir.base.files import sweep, write_table, write_whole

WRITER = """
import sys
from pathlib import Path
from cmtl_ir.base.files import write_whole

def pieces():
    yield b"half"
    print("writing", flush=True)
    sys.stdin.read()

write_whole(Path(sys.argv[1]), pieces())
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The temporary file of a process that was killed while it wrote `result.json`."""
    (tmp_path / "result.json").write_text("before")
    command = [sys.executable, "-c", WRITER, str(tmp_path / "result.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        (left,) = [path for path in tmp_path.iterdir() if path.name != "result.json"]
        assert sweep(tmp_path) == [] and left.exists(), "it is still being written"
        process.send_signal(signal.SIGKILL)
    return left


def test_a_killed_writer_leaves_the_old_file_and_its_temporary_file_is_swept(tmp_path: Path, killed: Path) -> None:
    assert (tmp_path / "result.json").read_text() == "before" and killed.exists()
    assert sweep(tmp_path) == [killed]
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_content_is_text_bytes_or_pieces(tmp_path: Path) -> None:
    for content in ("ä\n", "ä\n".encode(), [b"\xc3", memoryview(b"\xa4\n")]):
        assert write_whole(tmp_path / "a", content).read_bytes() == b"\xc3\xa4\n"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "before")
    with pytest.raises(TypeError):
        write_whole(tmp_path / "a", [b"after", 1])
    assert (tmp_path / "a").read_text() == "before" and len(list(tmp_path.iterdir())) == 1


def test_a_table_is_csv_as_the_csv_module_writes_it(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.csv", ["x", "y"], [{"x": 1, "y": "a,b"}, {"x": 2}])
    assert file.read_bytes() == b'x,y\r\n1,"a,b"\r\n2,\r\n'


def test_leftovers_of_earlier_versions_and_old_ones_of_other_machines_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [
        f".delivery.json.{dead.pid}",
        f".weights.safetensors.{dead.pid}-17",
        "result.json.writing",
        ".a.elsewhere-1-2.writing",
    ]
    kept = [
        f".delivery.json.{os.getpid()}",
        ".b.elsewhere-1-2.writing",
        "delivery.json",
        "metrics.jsonl",
        ".hidden.json",
    ]
    (tmp_path / "probes").mkdir()
    for name in gone + kept:
        (tmp_path / "probes" / name).touch()
    os.utime(tmp_path / "probes" / gone[-1], (0, 0))
    assert sorted(path.name for path in sweep(tmp_path)) == sorted(gone)
    assert sorted(path.name for path in (tmp_path / "probes").iterdir()) == sorted(kept)


def test_names_of_temporary_files_say_whose_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(files, "write_flushed", lambda path, pieces: seen.append(path.name) or path.write_bytes(b""))
    write_whole(tmp_path / "a.json", "")
    assert seen[0].startswith(".a.json.") and f"-{os.getpid()}-" in seen[0] and files._TEMPORARY.fullmatch(seen[0])
