"""No room but store/ spells out the names of the files that runs and comparisons leave."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmtl_ir.store import layout

ROOT = Path(__file__).parents[2]
NAMES = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}
FILES = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?!\w)" for name in sorted(NAMES) if "." in name))
FOLDERS = {name for name in NAMES if "." not in name}
IN_PATHS = re.compile(rf"(?<![\w-])({'|'.join(sorted(FOLDERS))})/")
MAY: dict[str, set[str]] = {
    "analysis/comparison.py": {"restored"},  # a figure of that name
    "cmtl_ir/store/layout.py": NAMES,
    "cmtl_ir/tracking/journal.py": {"metrics.jsonl", "delivery.json"},  # tracking/ knows no store/
    "cmtl_ir/tracking/store.py": {"metrics.jsonl", "experiment.yaml"},  # the latter names an artifact
    "cmtl_ir/tracking/readiness.py": {"store"},  # a folder of MLflow's package
    "cmtl_ir/tracking/sync.py": {"lock"},
    "cmtl_ir/tasks/images/pack.py": {"lock"},  # of a folder of decoded images
}


def spelled(file: Path) -> Iterator[tuple[int, str]]:
    """(line, name) of every name of a file or folder of the store in a string that is no documentation."""
    tree = ast.parse(file.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield from ((node.lineno, found) for found in FILES.findall(node.value) + IN_PATHS.findall(node.value))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            yield from ((node.lineno, str(node.right.value)) for _ in range(node.right.value in FOLDERS))


@pytest.mark.parametrize("room", ["cmtl_ir", "strategies", "analysis"])
def test_names_of_files_are_written_in_one_place(room: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sorted((ROOT / room).rglob("*.py"))
        for line, name in spelled(file)
        if name not in MAY.get(str(file.relative_to(ROOT)), ())
    ]
    assert wrong == []


def test_the_names_that_are_looked_for_are_found(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        '"""result.json"""\na = b / "checkpoints"\nc = f"{a}/result.json"\nd = "checkpoints"\ne = f"probes/{a}"\n'
    )
    assert sorted(spelled(file)) == [(2, "checkpoints"), (3, "result.json"), (5, "probes")]
