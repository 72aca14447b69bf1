"""Completion of the shell: runs, labels, parts and experiments, as Typer gives them to the shell."""

from __future__ import annotations

import io
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from cmtl_ir.cli.commands import app
from tests.analysis import forged


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("completion")
    final = {(label, seed): {"noise": 26.0, "rain": 25.0} for label in ("joint", "other") for seed in (0, 1)}
    forged.comparison(home, final)
    return home


def completed(*words: str | Path) -> list[str]:
    """What bash is offered for the last word."""
    said = io.StringIO()
    asked = {"COMP_WORDS": shlex.join(filter(None, ["cmtl-ir", *map(str, words)])), "COMP_CWORD": str(len(words))}
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit), redirect_stdout(said):
        for name, value in {**asked, "_CMTL_IR_COMPLETE": "complete_bash"}.items():
            patched.setenv(name, value)
        app(args=[], prog_name="cmtl-ir")
    return said.getvalue().split()


def test_runs_and_labels_of_the_folder_are_offered(out: Path) -> None:
    runs = ["forged/joint", "forged/joint/0", "forged/joint/1"]
    assert completed("restore", "--out", out, "forged/j") == runs
    assert completed("compare", "--out", out, "forged/other", "forged/j") == runs
    assert completed("evaluate", "--out", out, "forged/joint/") == runs[1:]
    assert "forged/other" in completed("unlearn", "--out", out, "") and "quickstart" in completed("unlearn", "")
    assert completed("report", "--out", out, "forg") == ["forged"] and "quickstart" in completed("report", "q")
    assert completed("report", "--out", out, "forged", "--baseline", "") == ["joint", "other"]


def test_labels_of_an_experiment_parts_and_experiments_are_offered(tmp_path: Path) -> None:
    assert completed("run", "quickstart", "--strategy", "") == ["joint", "sequential", "pcgrad"]
    assert completed("run", tmp_path / "missing.yaml", "--strategy", "") == []
    assert completed("run", "quick") == ["quickstart"] and "searches/art" in completed("search", "searches/")
    assert completed("describe", "cagr") == ["cagrad"] and completed("unlearn", "--method", "ssd") == ["ssd"]
    assert completed("similarity", "--measure", "gri") == ["grids"]
