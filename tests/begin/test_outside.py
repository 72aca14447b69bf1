"""Outside models: scored and unlearned like the run whose weights they are, compared with it, members of groups."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from cmtl_ir.analysis import pair
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.cli import main
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import neutral
from cmtl_ir.grouping.members import Members
from cmtl_ir.inference.card import model_card
from cmtl_ir.inference.published import Published, outside_model
from cmtl_ir.runs import comparison, plan
from cmtl_ir.runs.begin.outside import OutsideModel, take_in
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.run import Run
from cmtl_ir.unlearning.outside import outside_origin
from cmtl_ir.unlearning.report import notes, report_on
from cmtl_ir.unlearning.requests import unlearn
from tests import tiny
from tests.unlearning import cases

SHORT: dict[str, Any] = {
    "training": {"steps": 2}, "evaluation": {"every": 0}, "conflict": {"every": 0}, "data": {"test_crop": 32}
}  # fmt: skip
FEW = {"finetune": cases.method("finetune", steps=2)}


def made(strategies: dict[str, Any] | None = None, **more: Any) -> Experiment:
    return tiny.experiment(strategies, **tiny.merged(SHORT, more))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The finished run `tiny/joint`."""
    done = comparison.run(made(), tmp_path_factory.mktemp("outside") / "runs", "cpu")
    assert done.failures == {}
    return done.runs[0]


@pytest.fixture(scope="module")
def home(trained: Run) -> Path:
    """A folder with the weights of this run as `my.pth`, those of another network as `other.pth`, and `tiny.yaml`."""
    home = trained.folder.parents[2]
    torch.save({"params": safetensors.torch.load_file(trained.folder / "weights.safetensors")}, home / "my.pth")
    torch.save({"params": tiny.learner(seed=1).model.state_dict()}, home / "other.pth")
    (home / "tiny.yaml").write_text(yaml.dump(made().resolved()))
    return home


def model(file: Path) -> OutsideModel:
    return outside_model(Published(file, made().backbone))


@pytest.fixture(scope="module")
def taken(home: Path) -> Run:
    return take_in(made(), model(home / "my.pth"), Workspace.at(home / "runs", "cpu"))


def test_an_outside_model_is_scored_like_the_run_of_its_weights(trained: Run, taken: Run, home: Path) -> None:
    result = taken.result()
    assert result["psnr"] == trained.result()["psnr"] and result["steps"] == 0
    assert [point["stage_end"] for point in result["curve"]] == ["learned"]
    assert "Trained elsewhere" in model_card(taken.folder, "weights.pth")
    before = (taken.folder / "result.json").stat().st_mtime_ns
    wrapped = {f"module.{key}": value for key, value in torch.load(home / "my.pth")["params"].items()}
    (home / "again").mkdir()
    torch.save({"state_dict": wrapped}, home / "again" / "my.pth")
    again = take_in(made(), model(home / "again" / "my.pth"), Workspace.at(home / "runs", "cpu"))
    assert again.folder == taken.folder and (taken.folder / "result.json").stat().st_mtime_ns == before


def test_it_forgets_like_the_run_of_its_weights(trained: Run, taken: Run, home: Path) -> None:
    workspace = Workspace.at(home / "runs", "cpu")
    (mine,) = unlearn("tiny.my/outside", ["haze"], FEW, workspace).requests
    (its,) = unlearn("tiny/joint", ["haze"], FEW, workspace).requests
    assert tiny.same(*(cases.weights_in(one.done[0].run) for one in (mine, its)))
    report = report_on(mine, 0)
    assert report.references == {0: None} and any("--reference FILE gives weights" in note for note in notes(report))

    outside_origin(made(), model(home / "my.pth"), ["haze"], workspace, model(home / "other.pth"))
    (mine,) = unlearn("tiny.my/outside", ["haze"], FEW, workspace).requests
    report = report_on(mine, 0)
    reference = report.retrained(0)
    assert reference is not None and report.labels == ["original", "retrained", "finetune"]
    found = report.of("finetune")[0]
    assert found.result["psnr"]["haze"] - reference.result["psnr"]["haze"] == report.gap(found, "haze")
    assert found.audit.distance is not None and found.audit.distance["haze"] > 0


def test_it_is_compared_with_a_run_on_the_same_test_images(trained: Run, taken: Run) -> None:
    found = pair.compared({0: trained.folder}, {0: taken.folder}, ("joint", "my.pth"))
    assert found.reasons == [] and {field for field, *_ in found.made_of} >= {"outside"}
    assert all(first == second for rows in found.scores.values() for _, _, first, second in rows)
    assert not any(field.startswith("training") for field, *_ in found.made_of)


def grouped(models: Sequence[Path | str]) -> Experiment:
    groups = {"name": "manual", "groups": [["noise"], ["rain", "haze"]], "routing": "oracle"}
    return made({"experts": {"grouping": {**groups, "models": [str(one) for one in models]}}}, name="grouped")


def test_a_grouped_run_is_made_of_models_that_exist(trained: Run, home: Path) -> None:
    out = home / "runs"
    done = comparison.run(grouped([home / "my.pth", "tiny/joint"]), out, "cpu")
    assert done.failures == {}
    result = done.runs[0].result()
    assert result["psnr"] == trained.result()["psnr"] and result["steps"] == 0
    shutil.copyfile(home / "my.pth", home / "renamed.pth")
    names = ("renamed.pth", "other.pth")
    found = [plan.prepare(grouped([home / name, "tiny/joint"]), out, "cpu").runs[0].hash for name in names]
    assert found[0] == done.runs[0].hash != found[1]


def test_the_probes_of_similarity_begin_from_the_weights(home: Path) -> None:
    start = {"from": str(home / "my.pth")}
    (whole,) = plan.prepare(made(start=start), home / "runs", "cpu").planned
    proxy = Members(whole, Workspace.at(home / "runs", "cpu"), "").plan(["noise", "rain"], neutral(), 1, "probes")
    assert proxy.run.identity["start"] == whole.run.identity["start"]
    assert tiny.same(tiny.weights(proxy.learner()), torch.load(home / "my.pth")["params"])


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.error("outside model: a request that needs its training")
@pytest.mark.parametrize("method", ["retrain", "sisa"])
def test_exact_unlearning_is_refused(method: str, taken: Run, home: Path) -> None:
    says = rf"{method} repeats the training of tiny\.my\.outside, an outside model .* --reference FILE"
    with pytest.raises(UserError, match=says):
        unlearn("tiny.my/outside", ["haze"], [method], Workspace.at(home / "runs", "cpu"))


@pytest.mark.error("outside model: {cause}")
@pytest.mark.parametrize(
    ("cause", "arguments", "says"),
    [
        ("no experiment", "unlearn --weights my.pth --forget haze", "name the experiment .* as --file EXPERIMENT"),
        ("no task to forget", "unlearn --weights my.pth --file tiny.yaml", "--forget TASK: give the task that my.pth"),
        (
            "an unknown task",
            "unlearn --weights my.pth --file tiny.yaml --forget snow",
            "never had 'snow'; it has noise",
        ),
        ("a run in addition", "unlearn tiny/joint --weights my.pth --forget haze", "given in place of the run"),
        ("a reference alone", "unlearn tiny/joint --reference my.pth --forget haze", "belongs to --weights FILE"),
        (
            "the same weights as reference",
            "unlearn --weights my.pth --reference my.pth --file tiny.yaml --forget haze",
            "--reference has the weights of the model that is to forget",
        ),
        (
            "another width",
            "unlearn --weights my.pth --file tiny.yaml --set backbone.width=6 --forget haze",
            r"60 other shape: intro\.weight .* --set backbone\.FIELD=VALUE",
        ),
        (
            "one side of a comparison",
            "compare --weights my.pth --file tiny.yaml",
            "expected two runs or --weights FILE",
        ),
        ("a backbone of a run", "similarity tiny.yaml --backbone nafnet", "--backbone nafnet: belongs to --weights"),
        ("its conflict history", "report tiny.my --conflict-at 3", "outside model, whose gradients were never logged"),
        ("nothing", "unlearn", "expected RUN --forget TASK, an experiment with `unlearning:`, or --weights FILE"),
    ],
)
def test_what_cannot_be_asked_is_named(
    cause: str, arguments: str, says: str, taken: Run, home: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(home)
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    told = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2 and told.count("error:") == 1, told
    assert re.search(says, told), told


@pytest.mark.error("grouping.models: {cause}")
@pytest.mark.parametrize(
    ("cause", "models", "says"),
    [
        ("a missing file", ["my.pth", "none.pth"], r"strategies\.experts\.grouping\.models: none\.pth: no such file"),
        ("one model for two groups", ["my.pth"], r"grouping\.models: give `groups` as lists .* one network for each"),
    ],
)
def test_models_of_groups_that_are_not_there(
    cause: str, models: list[str], says: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    with pytest.raises(ConfigError, match=says):
        plan.prepare(grouped(models), Path("runs"), "cpu")
