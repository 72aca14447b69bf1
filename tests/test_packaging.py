"""What pip installs is what runs, wherever the user stands."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROBE = """
import cmtl_ir, cmtl_ir.strategies, cmtl_ir.analysis, cmtl_ir.config.reading as config
from cmtl_ir.strategy.registry import load
print(cmtl_ir.__file__)
print(cmtl_ir.analysis.__file__)
print(load("surgery", "pcgrad").__module__)
print(config.load("quickstart").name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without network; the build goes on in a copy."""
    home = tmp_path_factory.mktemp("wheel")
    source = home / "source"
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(home), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    return next(home.glob("*.whl"))


def test_the_wheel_holds_the_four_rooms_under_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"cmtl_ir"}
    for wanted in (
        "strategies/surgery/pcgrad.py",
        "analysis/figures/curves.py",
        "experiments/quickstart.yaml",
        "py.typed",
    ):
        assert f"cmtl_ir/{wanted}" in names
    sources = {
        str(p.relative_to(ROOT)) for room in ("cmtl_ir", "strategies", "analysis") for p in ROOT.glob(f"{room}/**/*.py")
    }
    installed = {name.removeprefix("cmtl_ir/") for name in names}
    assert {s.removeprefix("cmtl_ir/") for s in sources} <= installed


@pytest.mark.parametrize("installed", ["wheel", "editable"])
def test_a_users_own_analysis_folder_is_left_alone(wheel: Path, tmp_path: Path, installed: str) -> None:
    for room in ("analysis", "strategies", "experiments"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise RuntimeError('this is mine')\n")
    path = ""
    if installed == "wheel":
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / "site")
        path = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
    answer = subprocess.run([sys.executable, "-c", path + PROBE], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[2:] == ["cmtl_ir.strategies.surgery.pcgrad", "quickstart"]
    if installed == "wheel":
        assert all(line.startswith(str(tmp_path / "site")) for line in answer.stdout.splitlines()[:2])


def test_the_engine_imports_no_strategy_and_no_analysis() -> None:
    import ast

    for file in (ROOT / "cmtl_ir").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign = [
                n for n in names if n.startswith(("cmtl_ir.strategies", "cmtl_ir.analysis", "analysis", "strategies"))
            ]
            assert not foreign or ROOT / "cmtl_ir/cli" in file.parents, f"{file}:{node.lineno} imports {foreign}"  # type: ignore[attr-defined]
