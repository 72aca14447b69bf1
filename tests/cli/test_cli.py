"""The command line as a user meets it: exit codes, what is said where, no traceback."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from rich.console import Console
from skimage import data
from skimage import io as images

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.cli import display, main
from cmtl_ir.cli.display import scores as display_scores
from cmtl_ir.config import catalogue
from cmtl_ir.runs import comparison
from tests import tiny

if TYPE_CHECKING:
    from cmtl_ir.runs.plan import Comparison

OWN_PARTS = """\
from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cmtl_ir.strategy import Weighting


@dataclass
class Record:  # looks its own module up by name
    power: float


class HardFirst(Weighting):
    \"\"\"Weights in proportion to a power of the loss.\"\"\"

    bibtex = "@article{own, title = {Hard first}}"

    power: float = 2.0
    \"\"\"0 is equal weighting.\"\"\"


class Net(nn.Module):
    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
"""


def process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, as a shell starts it."""
    command = [sys.executable, "-m", "cmtl_ir", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def cmtl_ir(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has imported everything."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as ended, redirect_stdout(out), redirect_stderr(err):
        main([str(one) for one in arguments])
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess([], ended.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison of one strategy."""
    out = tmp_path_factory.mktemp("cli") / "runs"
    comparison.run(tiny.experiment(), out, "cpu")
    return out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.dump({**tiny.RAW, "strategies": {"joint": {}}}))
    return path


def test_help_loads_no_heavy_package() -> None:
    probe = "import sys\ntry:\n from cmtl_ir.cli import main; main(['--help'])\nexcept SystemExit: pass\n"
    probe += (
        "print([m for m in ('torch', 'mlflow', 'avalanche', 'pandas', 'matplotlib', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_a_mistake_ends_with_code_2_and_no_traceback(file: Path) -> None:
    answer = process("run", file, "--set", "training.stesp=3", "--dry-run")
    assert answer.returncode == 2
    assert "training.stesp: unknown key; did you mean steps?" in answer.stderr and "Traceback" not in answer.stderr


def test_a_dry_run_trains_nothing_and_says_what_would_run(file: Path, tmp_path: Path) -> None:
    answer = cmtl_ir("run", file, "--dry-run", "--out", tmp_path / "runs")
    assert answer.returncode == 0, answer.stderr
    assert "1 runs of 12 steps" in answer.stdout and "Nothing was trained" in answer.stdout
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_finds_an_empty_folder(file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = cmtl_ir("run", file, "--dry-run", "--set", f"data.clean={tmp_path / 'empty'}")
    assert answer.returncode == 2 and str(tmp_path / "empty") in answer.stderr and "Traceback" not in answer.stderr


def test_running_again_skips_and_prints_the_table(file: Path, done: Path) -> None:
    answer = process("run", file, "--out", done)
    assert answer.returncode == 0, answer.stderr
    assert "finished before: skipped" in answer.stdout and "joint" in answer.stdout
    assert (done / "tiny" / "forgetting.png").is_file() and (done / "tiny" / "restored.png").is_file()


def test_restore_writes_images_and_never_overwrites_silently(done: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep er").mkdir(parents=True)
    images.imsave(tmp_path / "in" / "deep er" / "a.png", data.astronaut()[:70, :50])
    first = cmtl_ir("restore", "tiny/joint", tmp_path / "in", tmp_path / "out", "--out", done)
    assert first.returncode == 0, first.stderr
    assert images.imread(tmp_path / "out" / "deep er" / "a.png").shape == (70, 50, 3)
    again = cmtl_ir("restore", "tiny/joint", tmp_path / "in", tmp_path / "out", "--out", done)
    assert again.returncode == 0 and "1 of 1 images were restored before: skipped" in again.stdout
    images.imsave(tmp_path / "out" / "deep er" / "a.png", data.astronaut()[:20, :20])
    other = cmtl_ir("restore", "tiny/joint", tmp_path / "in", tmp_path / "out", "--out", done)
    assert other.returncode == 2 and "a.png exists" in other.stderr and "--overwrite" in other.stderr


def test_restore_names_a_broken_image(done: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG but no more")
    answer = cmtl_ir("restore", "tiny/joint", tmp_path / "a.png", tmp_path / "b.png", "--out", done)
    assert answer.returncode == 2 and "a.png" in answer.stderr and "Traceback" not in answer.stderr


def test_an_unknown_run_lists_those_that_are_finished(done: Path, tmp_path: Path) -> None:
    answer = cmtl_ir("restore", "tiny/jiont", tmp_path, tmp_path, "--out", done)
    assert answer.returncode == 2 and "tiny/joint/0" in answer.stderr


def test_evaluate_reproduces_the_scores_of_the_run(done: Path, tmp_path: Path) -> None:
    answer = cmtl_ir("evaluate", "tiny/joint", "--out", done, "--csv", tmp_path / "scores.csv")
    assert answer.returncode == 0, answer.stderr
    (folder,) = (one.parent for one in done.glob("store/*/per_image.csv"))
    assert (tmp_path / "scores.csv").read_text() == (folder / "per_image.csv").read_text()


@pytest.mark.parametrize("width", [20, 60, 120])
def test_no_number_of_the_table_of_a_comparison_is_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the screen, and whatever a log file is taken for."""
    screen = io.StringIO()
    monkeypatch.setattr(display, "console", Console(file=screen, width=width, highlight=False))
    tasks = [f"task{number}" for number in range(11)]
    scores = {task: 20.01 + number for number, task in enumerate(tasks)}
    means = {"psnr": scores, "psnr_input": scores, "ssim": scores, "ssim_input": scores}
    rotated = means | {"psnr_input": dict.fromkeys(tasks, 10.0)}  # the test images of another seed
    ends = {"continual": {"mean_forgetting_db": 4.32}, "seconds": 1234.0, "hash": "", "seed": 1}
    made = SimpleNamespace(
        experiment=SimpleNamespace(
            name="wide", tasks=tasks, seeds=[0, 1], strategies={}, evaluation=SimpleNamespace(protocol="mio")
        ),
        results=lambda: [{"label": "a_strategy_of_some_name", **means, **ends}, {"label": "other", **rotated, **ends}],
        tracking=SimpleNamespace(uri="sqlite:///x"),
        failures={},
    )
    display_scores.comparison(cast("Comparison", made))
    (row,) = [line for line in screen.getvalue().splitlines() if "a_strategy_of_some_name" in line]
    found = row.split()
    assert found[1:] == ["1", *(f"{score:.2f}" for score in scores.values()), "25.01", "4.32", "1234"]
    assert sum("(input)" in line for line in screen.getvalue().splitlines()) == 2


def test_describe_says_paper_fields_and_cost() -> None:
    answer = cmtl_ir("describe", "cagrad")
    assert "Liu" in answer.stdout and "cost:" in answer.stdout
    wrong = cmtl_ir("describe", "cagard")
    assert wrong.returncode == 2 and "cagrad" in wrong.stderr


def test_describe_knows_classes_of_other_libraries() -> None:
    pytest.importorskip("torchjd")
    guest = catalogue.describe("torchjd:UPGrad")
    assert guest.family == "surgery" and "projector" in [field for field, *_ in guest.fields]
    assert guest.where.endswith("_upgrad.py"), "the guest's own code, not what hosts it"
    with pytest.raises(UserError, match="UPGrad"):
        catalogue.describe("torchjd:UPgrad")


def test_describe_knows_classes_of_own_files(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN_PARTS)
    mine = catalogue.describe(f"{own}:HardFirst")
    assert mine.family == "weighting" and "of the loss" in mine.text and mine.where == str(own)
    assert ("power", "float", "2.0", "0 is equal weighting.") in mine.fields
    assert catalogue.describe(f"{own}:Net").family == "backbone"
    for wrong, said in ((f"{own}:Record", "is no part"), (f"{own}:Hard", "HardFirst")):
        with pytest.raises(UserError, match=said):
            catalogue.describe(wrong)
    answer = cmtl_ir("describe", f"{own}:HardFirst", "--bibtex")
    assert answer.stdout.startswith("@article{own,") and "@software{cmtl_ir," in answer.stdout


def test_list_names_what_other_libraries_lend() -> None:
    answer = cmtl_ir("list", "*:*")
    assert "avalanche:EWCPlugin" in answer.stdout
    assert ("torchjd:UPGrad" in answer.stdout) is (importlib.util.find_spec("torchjd") is not None)
    assert "nothing matches" in cmtl_ir("list", "no*:*").stdout
