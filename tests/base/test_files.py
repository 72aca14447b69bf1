"""Files are whole or absent, and what killed processes leave of them is swept."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from cmtl_ir.base import environment, files
from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import check_folder, json_text, sweep, write_json, write_table, write_whole
from cmtl_ir.measures.statistics import Interval
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.folder import read_result, write_result
from cmtl_ir.unlearning.audit import Audit
from cmtl_ir.unlearning.relearn import Relearning

ROOT = Path(__file__).parents[2]
nan = math.nan

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


# ------------------------------------------------------------------------------------------------------------- JSON


def test_json_has_null_for_what_is_not_a_number(tmp_path: Path) -> None:
    inf, nan = math.inf, math.nan
    file = write_json(tmp_path / "a.json", {"x": nan, "y": [inf, (1.5, -inf)], "z": {"n": 3, "t": True, "s": "NaN"}})
    assert json.loads(file.read_text()) == {"x": None, "y": [None, [1.5, None]], "z": {"n": 3, "t": True, "s": "NaN"}}


def test_every_json_file_is_written_so() -> None:
    """`json.dumps` writes NaN unless it is told not to; what has floats goes through `write_json` or `json_text`."""
    direct = re.compile(r"(?:write_whole|write_text|write_bytes|write)\([^\n]*json\.dumps?\(")
    found = {
        str(path.relative_to(ROOT)) for path in (ROOT / "cmtl_ir").rglob("*.py") if direct.search(path.read_text())
    }
    found |= {
        str(path.relative_to(ROOT)) for path in (ROOT / "analysis").rglob("*.py") if direct.search(path.read_text())
    }
    assert found == {"cmtl_ir/inference/journal.py", "cmtl_ir/processes/job.py", "cmtl_ir/tasks/images/pack.py"}, (
        "these hold names and digests, or are read by a process at once"
    )


def test_a_score_that_is_not_a_number_is_read_back_as_one(tmp_path: Path) -> None:
    point = {"step": 1, "stage_end": None, "psnr": {"rain": nan, "haze": 2.0}, "val": {"psnr": {"rain": nan}}}
    write_result(
        tmp_path, {"psnr": {"rain": nan}, "val": None, "seconds": nan, "continual": {"a": {}}, "curve": [point]}
    )
    found = read_result(tmp_path)
    assert math.isnan(found["psnr"]["rain"]) and found["seconds"] is None and found["val"] is None
    (read,) = found["curve"]
    assert math.isnan(read["psnr"]["rain"]) and read["psnr"]["haze"] == 2.0 and math.isnan(read["val"]["psnr"]["rain"])
    audit = Audit({"rain": nan}, Interval(nan, 0.1, nan, 3, "too few"), Relearning([(0, nan)], 20.0))
    back = Audit.of(json.loads(json_text(asdict(audit))))
    assert back.distance is not None and back.relearning is not None
    assert (
        math.isnan(back.distance["rain"]) and math.isnan(back.attack.high) and math.isnan(back.relearning.curve[0][1])
    )


# ------------------------------------------------------------------------------------------------------ environment


def test_the_commit_is_that_of_the_checkout_wherever_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    expected = head.stdout.strip() if head.returncode == 0 else None
    monkeypatch.chdir(tmp_path)
    environment.git_commit.cache_clear()
    assert environment.git_commit() == expected
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), *author, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    package = tmp_path / ".venv" / "lib" / "cmtl_ir"  # installed below a repository that is not its checkout
    package.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(package / "base" / "environment.py"))
    environment.git_commit.cache_clear()
    assert environment.git_commit() is None
    monkeypatch.undo()
    environment.git_commit.cache_clear()


def test_a_folder_that_takes_no_files_is_refused_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The administrator may write everywhere, but a /proc and a read-only file system take no files."""
    (tmp_path / "file").write_text("")
    check_folder(tmp_path / "new" / "runs", "--out")
    with pytest.raises(UserError, match=r"--out: .*file is a file, not a folder; name another place"):
        Workspace.at(tmp_path / "file" / "runs")

    def refused(**options: Path) -> None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refused)
    with pytest.raises(UserError, match=r"takes no files \(No such file or directory\); name another place"):
        Workspace.at(tmp_path / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
