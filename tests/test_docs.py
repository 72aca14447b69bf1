"""What the pages in docs/ show works as it stands there."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from cmtl_ir.base import yaml
from cmtl_ir.base.version import __version__
from cmtl_ir.base.yaml import merged
from cmtl_ir.cli import main
from cmtl_ir.config import reading
from cmtl_ir.search import config as search_config
from cmtl_ir.search import tuning
from cmtl_ir.tasks.images.encode import write_image
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted({
    line.partition("#")[0].partition(" > ")[0].strip()
    for page in PAGES for line in re.findall(r"^    (cmtl-ir .*)$", page.read_text(), re.MULTILINE)
})  # fmt: skip


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_its_options_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)[1:]
    with pytest.raises(SystemExit) as ended:
        main([*(word for word in words if word != "--help"), "--help"])
    told = capsys.readouterr()
    assert ended.value.code == 0 and f" {words[0]} " in told.out.splitlines()[0], told.err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_pictures_of_the_readme_are_those_of_the_linked_report() -> None:
    """One source: README shows files of docs/quickstart, whose report shows them too and names no machine's paths."""
    home = ROOT / "docs" / "quickstart"
    readme, report = (ROOT / "README.md").read_text(), (home / "report.md").read_text()
    shown = re.findall(r"!\[[^]]*\]\(docs/quickstart/(figures/\w+\.png)\)", readme)
    assert "(docs/quickstart/report.md)" in readme and len(shown) == readme.count("![") == 2
    assert all(f"({file})" in report for file in shown)
    drawn = re.findall(r"\]\((figures/[^)]+)\)", report)
    assert drawn and all((home / file).is_file() for file in drawn)
    for page in (report, (home / "report.html").read_text()):
        assert re.search(r"/(?:tmp|home|root|Users)/", page) is None and "runs/quickstart" in page


def test_every_name_in_the_guide_exists() -> None:
    from cmtl_ir.config.catalogue import all_names

    text = (ROOT / "docs" / "which-strategy.md").read_text()
    fields = {"groups: each", "Δ single-task"}
    names = set(re.findall(r"`([^`]+)`", text)) - fields
    known = {name.rpartition("/")[2] for name in all_names()} | set(all_names())
    assert len(names) > 40 and names - known == set()


def test_the_guide_s_figures_stand_under_the_commands_that_measured_them() -> None:
    """Elsewhere it reasons, without any."""
    text = (ROOT / "docs" / "which-strategy.md").read_text()
    measured = re.findall(r"^### What (?:one seed|three seeds) showed\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
    assert len(measured) == 4
    for section in measured:
        assert re.match(r"\n(    cmtl-ir .+\n)+\n\d{4}-\d\d-\d\d, ", section), "which command, when, on what"
        text = text.replace(section, "")
    assert re.findall(r"\d+(?:\.\d+)? ?(?:dB|%|ms)", text) == []


def test_the_search_shown_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart.yaml").write_text(reading.shipped_experiments()["quickstart"].read_text())
    Path("my_search.yaml").write_text(blocks("search.md", "yaml")[0])
    (plan,) = search_config.load("my_search.yaml", [], None)
    assert plan.name == "my_search"
    Path("my_tuning.yaml").write_text(blocks("search.md", "yaml")[1])
    shown = tuning.load("my_tuning.yaml")
    assert shown.trials == 3 and [len(study.space) for study in shown.studies] == [1, 1, 2]
    Path("stated.yaml").write_text("extends: quickstart.yaml\n" + blocks("search.md", "yaml")[2])
    assert reading.load("stated.yaml").strategies["db_mtl"].training == {"optimizer": {"lr": 1e-3}}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_job_script_shown_queues_itself_again_when_it_was_stopped(tmp_path: Path) -> None:
    (script,) = blocks("distributed.md", "bash")
    for name, body in {"srun": 'echo "srun $*"; exit $CODE', "scontrol": 'echo "scontrol $*"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    named = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "7", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for code, end, again in ((130, 0, ["scontrol requeue 7_3"]), (0, 0, []), (1, 1, [])):
        done = subprocess.run(["bash", "-c", script], env={**named, "CODE": str(code)}, capture_output=True, text=True)
        assert done.stdout.splitlines() == ["srun cmtl-ir run quickstart --seed 3", *again]
        assert done.returncode == end and done.stderr == ""


def test_the_experiment_on_own_data_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = reading.validate(yaml.parse(blocks("data.md", "yaml")[0]), "data.md")
    assert set(shown.tasks) == {"noise", "derain"}


def test_the_strategy_shown_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart.yaml").write_text(reading.shipped_experiments()["quickstart"].read_text())
    Path("hardest.py").write_text(blocks("strategy.md", "python")[0])
    Path("mine.yaml").write_text(blocks("strategy.md", "yaml")[0])
    shown = reading.load("mine.yaml")
    weighting = shown.strategies["hardest"].weighting
    assert weighting is not None
    weights = weighting.weights(torch.tensor([0.1, 0.3, 0.2]), None, None)
    assert weights.argmax() == 1 and weights.sum() == pytest.approx(1.0)


def files_of_the_strategy_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write what docs/strategy.md shows into an empty folder: NAME.py, and every experiment under its own name."""
    monkeypatch.chdir(tmp_path)
    Path("quickstart.yaml").write_text(reading.shipped_experiments()["quickstart"].read_text())
    for block in blocks("strategy.md", "python"):
        Path(block.partition("\n")[0].removeprefix("# ")).write_text(block)
    for block in blocks("strategy.md", "yaml"):
        Path(f"{yaml.parse(block)['name']}.yaml").write_text(block)


def trained(file: str, label: str, *overrides: str) -> dict[str, torch.Tensor]:
    """The weights after two steps of one strategy of an experiment."""
    shown = reading.load(file, ["training.steps=2", "training.batch=3", "data.patch=16", *overrides])
    tasks = build_tasks(shown.tasks, shown.data, 0, torch.device("cpu"))
    learner = Learner(shown, shown.strategies[label], tasks, 0, torch.device("cpu"))
    train(learner, tiny.Silent())
    return tiny.weights(learner)


def test_the_loss_shown_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files_of_the_strategy_page(tmp_path, monkeypatch)
    mine = trained("with_my_loss.yaml", "joint")
    plain = trained("with_my_loss.yaml", "joint", "training.loss={name: 'my_loss.py:Mine', darkness: 0.0}")
    l1 = trained("quickstart.yaml", "joint")
    assert tiny.same(plain, l1) and not tiny.same(mine, l1)


def test_the_auxiliary_objectives_shown_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files_of_the_strategy_page(tmp_path, monkeypatch)
    shown = reading.load("with_auxiliary_objectives.yaml")
    listed = {label: [one.called for one in strategy.auxiliary] for label, strategy in shown.strategies.items()}
    mine, late = ["frequency", "my_loss.py:Mine"], ["frequency", "gradient"]
    assert listed == {label: ["frequency"] for label in ["joint", "sequential", "pcgrad"]} | {
        "darker": mine,
        "late": late,
    }
    assert shown.strategies["late"].auxiliary[1].weight_at("joint", 0.4) == 0
    without = trained("quickstart.yaml", "joint")
    ends = [trained("with_auxiliary_objectives.yaml", label) for label in ("joint", "darker", "late")]
    assert not any(tiny.same(one, other) for one, other in itertools.combinations([without, *ends], 2))


def test_the_metric_shown_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cmtl_ir.measures.metric import metrics_from

    files_of_the_strategy_page(tmp_path, monkeypatch)
    shown = reading.load("with_my_metric.yaml")
    psnr, mae = metrics_from(shown.evaluation.metrics)
    clean = torch.full((2, 3, 32, 32), 0.5)
    scores = mae(clean + torch.tensor([0.1, 0.2]).reshape(2, 1, 1, 1), clean, shown.evaluation.protocol)
    assert scores.tolist() == pytest.approx([25.5, 51.0], rel=1e-6)
    assert (psnr.scale.name, mae.scale.name, mae.scale.higher_is_better) == ("psnr", "mae", False)


def test_the_adapter_shown_adapts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cmtl_ir.adaptation.rounds import Given, Session
    from tests.adaptation.cases import Mixing, adapter, image, subject

    monkeypatch.chdir(tmp_path)
    Path("darker.py").write_text(blocks("adapt.md", "python")[0])
    network, given = subject(Mixing()), Given("image", image())
    half, plain = (
        Session(adapter(name), network, print).answer(given) for name in ("darker.py:Darker:factor=0.5", "none")
    )
    assert torch.equal(half.restored, 0.5 * plain.restored)


def test_the_sequences_shown_are_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart.yaml").write_text(reading.shipped_experiments()["quickstart"].read_text())
    Path("sequence.yaml").write_text(blocks("sequence.md", "yaml")[0])
    shown = list(reading.load("sequence.yaml").strategies)
    assert shown == ["joint", "sequential", "reviewed", "replayed", "held", "guest"]


def test_the_way_to_avalanche_and_back_works_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("sequence.md", "python")[0], "sequence.md", "exec"), {})
    assert list(reading.load("stream.yaml").tasks) == ["noise", "rain", "haze"]
    assert len(list(Path("images/haze/train/input").iterdir())) == 8


def test_the_page_of_backbones_lists_all_of_them_with_their_size() -> None:
    from cmtl_ir import backbones

    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| ([\d,]+) \|", (ROOT / "docs" / "backbones.md").read_text(), re.MULTILINE)
    with torch.device("meta"):
        counted = {name: sum(one.numel() for one in backbones.build(name).parameters()) for name in backbones.BACKBONES}
    assert {name: int(size.replace(",", "")) for name, size in rows} == counted and len(rows) == len(counted)


def test_the_names_of_methods_on_the_page_of_sequences_are_all_there_are() -> None:
    from cmtl_ir.config.catalogue import families

    text = (ROOT / "docs" / "sequence.md").read_text()
    for family, begin in (("curriculum", "- **Curricula**"), ("retention", "- **Retention**")):
        item = text[text.index(begin) :].partition("\n- ")[0].partition(".\n")[0]
        assert set(re.findall(r"`(\w+)`", item)) == set(families()[family])


def test_a_checkpoint_gets_one_more_task_and_one_fewer_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command of the page, with a smaller network and fewer steps."""
    monkeypatch.chdir(tmp_path)
    small = {"data": {"patch": 16, "test_crop": 32}, "backbone": tiny.RAW["backbone"], "training": {"steps": 4}}
    shown = {**yaml.parse(blocks("start.md", "yaml")[0]), "backbone": {}}
    Path("one_more.yaml").write_text(yaml.dump(merged(shown, small)))
    torch.save({"params": tiny.learner().model.state_dict()}, "my.pth")
    write_image(Path("photo.png"), torch.rand(1, 3, 32, 32))
    for command in re.findall(r"^    cmtl-ir (.*)$", (ROOT / "docs" / "start.md").read_text(), re.MULTILINE):
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command))
        assert ended.value.code == 0, f"{command}: {capsys.readouterr().err}"
    assert Path("restored.png").is_file()
    (table,) = Path("runs/one_more.replay-without-rain").glob("table.md")
    assert "the run began from weights that may know the task" in table.read_text()


def test_the_frames_shown_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.analysis import forged

    folder = forged.comparison(tmp_path / "runs", {("joint", 0): {"noise": 27.0, "rain": 25.0}})
    folder.rename(folder.with_name("quickstart"))
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("report.md", "python")[0], "report.md", "exec"), {})


def test_the_metric_shown_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from cmtl_ir.measures.metric import metrics_from

    monkeypatch.chdir(tmp_path)
    Path("my_metric.py").write_text(blocks("report.md", "python")[1])
    listed = yaml.parse(blocks("report.md", "yaml")[0])["evaluation"]["metrics"]
    mae = metrics_from(listed)[-1]
    assert mae(torch.zeros(2, 3, 16, 16), torch.full((2, 3, 16, 16), 0.2), "basicsr_rgb").tolist() == [51.0, 51.0]


def test_the_citation_file_agrees_with_the_package() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.read(ROOT / "CITATION.cff")
    assert cited["version"] == __version__ and cited["license"] == project["license"]
    assert set(cited["keywords"]) <= set(project["keywords"])
    assert {"cff-version", "message", "title", "authors"} <= set(cited)


def test_the_page_of_checks_lists_every_method_with_at_least_one_test() -> None:
    from tests.reproduced import names

    text = (ROOT / "docs" / "reproduced.md").read_text()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        family, _, table = section.partition("\n")
        rows = dict(re.findall(r"^\| (\w+) \| (\d+) \|", table, re.MULTILINE))
        assert sorted(rows) == sorted(names()[family]), f"python -m tests.reproduced > docs/reproduced.md ({family})"
        assert all(int(number) > 0 for number in rows.values()), family


def test_the_page_of_errors_lists_the_causes_of_the_tests(request: pytest.FixtureRequest) -> None:
    """Those that this session has collected. If it has collected all test modules, the page has no others."""
    from tests import errors

    listed, items = errors.read(errors.PAGE.read_text()), request.session.items
    causes = {cause for item in items for cause in errors.causes_of(item)}
    assert causes - set(listed) == set(), "python -m tests.errors"
    if not request.config.option.keyword and set(errors.marked_files()) <= {str(item.path) for item in items}:
        assert set(listed) - causes == set(), "python -m tests.errors"


def test_every_message_of_the_page_names_its_file_key_or_step() -> None:
    from tests import errors

    text = errors.PAGE.read_text()
    assert errors.page(errors.read(text)) == text and not re.search(
        r"/(?:tmp|home|root|Users)/|Traceback|weights_only", text
    )
    for (area, cause), lines in errors.read(text).items():
        for line in lines:
            message = line.split(" | ", 1)[1]
            assert errors.NAMED.search(message), f"{area}: {cause}: {message}"
