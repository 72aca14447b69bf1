"""What `cmtl-ir run` imports before its first step, in a folder whose tracking store exists."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from cmtl_ir.base import yaml
from tests import tiny

LATE = ("mlflow", "sqlalchemy", "pandas", "scipy", "matplotlib", "torch._dynamo", "sympy")
"""Packages that take long to import, and that no step needs."""
FIRST_STEP = """
import json, os, sys
from cmtl_ir.runs.watching import recorder

def first(*_given):
    print(json.dumps([name for name in sys.argv[1].split() if name in sys.modules]), flush=True)
    os._exit(0)

recorder.Recorder.stepped = first
from cmtl_ir.cli import main
main(sys.argv[2:])
"""


def test_the_first_step_waits_for_no_import_that_it_does_not_need(empty_store: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_store, tmp_path / "runs" / "mlflow.db")
    (tmp_path / "tiny.yaml").write_text(yaml.dump({**tiny.RAW, "strategies": {"pcgrad": {"surgery": "pcgrad"}}}))
    run = ["run", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "runs"), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEP, " ".join(LATE), *run], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
