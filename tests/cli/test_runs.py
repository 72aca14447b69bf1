"""What lies on disk is listed with who needs it, and only what nothing needs is removed, from MLflow too."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from cmtl_ir.cli import main
from cmtl_ir.runs import comparison
from cmtl_ir.store.holdings import holdings
from cmtl_ir.tasks.images import cache
from cmtl_ir.tracking.mlflow_store import connect
from cmtl_ir.tracking.store import local_uri
from tests import tiny

SHORT = {"training": {"steps": 1, "batch": 3}, "conflict": {"every": 0}, "evaluation": {"every": 0}}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison of one strategy."""
    out = tmp_path_factory.mktemp("runs") / "runs"
    comparison.run(tiny.experiment(data={"test_crop": 32}, **SHORT), out, "cpu")
    return out


def said(*arguments: str, code: int = 0) -> str:
    """What a command prints."""
    text = io.StringIO()
    with redirect_stdout(text), redirect_stderr(text), pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == code, text.getvalue()
    return " ".join(text.getvalue().split())


def tracked(out: Path) -> int:
    client = connect(local_uri(out))
    return len(client.search_runs([one.experiment_id for one in client.search_experiments()]))


def test_a_run_is_removed_once_nothing_needs_it(out: Path) -> None:
    at = ("--out", str(out))
    (held,) = holdings(out)
    assert held.listed == ("tiny/joint/0",) and held.state == "finished" and held.size > 10_000
    assert "finished" in said("runs", "list", *at) and "1 runs, " in said("runs", "list", *at)
    shown = said("runs", "show", "tiny/joint", *at)
    assert "needed by tiny/joint/0" in shown and "PSNR [dB]: noise" in shown and "weights.safetensors: " in shown
    assert "runs that are needed: 1" in said("runs", "disk", *at)
    refused = said("runs", "rm", "tiny/joint", "--yes", *at, code=2)
    assert "tiny/joint/0 lists it; remove the comparison first" in refused and held.folder.is_dir()
    assert "nothing to remove" in said("runs", "rm", "--unreferenced", *at) and tracked(out) == 2
    assert "there is no terminal to ask on; give --yes" in said("runs", "rm", "tiny", *at, code=2)
    said("runs", "rm", "tiny", "--yes", *at)
    assert not (out / "tiny").exists() and held.folder.is_dir() and tracked(out) == 1
    artifacts = len(list((out / "mlartifacts").iterdir()))
    said("runs", "rm", held.folder.name[:6], "--yes", *at)
    assert not held.folder.exists() and tracked(out) == 0 and holdings(out) == []
    assert len(list((out / "mlartifacts").iterdir())) == artifacts - 1


def test_a_run_that_another_one_names_is_needed(tmp_path: Path) -> None:
    for name, text in {"a" * 16: "identity: {}", "b" * 16: f"identity: {{origin: {'a' * 16}}}"}.items():
        (tmp_path / "store" / name).mkdir(parents=True)
        (tmp_path / "store" / name / "config.yaml").write_text(text)
    found = {one.folder.name[0]: one for one in holdings(tmp_path)}
    assert found["a"].used_by == ("b" * 16,) and not found["b"].referenced and found["b"].state == "started"
    assert "the runs bbbbbbbbbbbbbbbb need it" in said("runs", "rm", "aaaa", "--yes", "--out", str(tmp_path), code=2)
    assert "no such run" in said("runs", "show", "cccc", "--out", str(tmp_path), code=2)


def test_the_cache_is_listed_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMTL_IR_CACHE", str(tmp_path))
    for folder in ("packs/one", "dead_leaves-1", "foreign"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "pixels").write_bytes(bytes(2_000_000))
    assert "2 sources, 4.0 MB" in said("cache", "list")
    assert "give --yes" in said("cache", "rm", code=2) and len(cache.cached_folders()) == 2
    said("cache", "rm", "--yes")
    assert cache.cached_folders() == [] and (tmp_path / "foreign/pixels").is_file()
