"""Unlearning requests: refusals, chains of requests, and the content of results."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.cli import main
from cmtl_ir.config.experiment import TrainingConfig
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store import checkpoint
from cmtl_ir.store.listing import set_aside
from cmtl_ir.tracking.journal import Delivery
from cmtl_ir.tracking.mlflow_store import PARENT, connect
from cmtl_ir.tracking.store import local_uri
from cmtl_ir.unlearning.audit import Auditor
from cmtl_ir.unlearning.origin import Origin, find_origin
from cmtl_ir.unlearning.planning import experiment_for, reference_folder, reference_identity, refuse_impossible
from cmtl_ir.unlearning.report import NO_REFERENCE, notes, report_on
from cmtl_ir.unlearning.requests import Forgetting, prepare_jobs, unlearn
from tests import tiny

from . import cases

FEW = {"finetune": cases.method("finetune", steps=2)}


@pytest.fixture
def out(store: Path, tmp_path: Path) -> Path:
    """A folder with the finished runs, to be changed at will."""
    return shutil.copytree(store, tmp_path / "runs")


def forget(out: Path, run: str, tasks: list[str], methods: Any = FEW, **more: Any) -> Forgetting:
    (made,) = unlearn(run, tasks, methods, Workspace.at(out, "cpu"), **more).requests
    assert not made.failures
    return made


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.error("unlearn: a training with several batch sizes")
def test_whole_crops_are_taken_and_a_training_with_phases_is_not_divided(joint: Origin) -> None:
    phases = [{"until": 0.5, "patch": 8, "batch": 9}, {"until": 1}]
    training = {**joint.experiment.training.model_dump(mode="json"), "progressive": phases}
    changed = joint.experiment.model_copy(update={"training": TrainingConfig.model_validate(training)})
    origin = replace(joint, prepared=replace(joint.prepared, experiment=changed))
    assert experiment_for(cases.job(origin, "finetune"), {}).training.progressive is None
    with pytest.raises(UserError, match="sisa divides the samples of a training with one batch size"):
        refuse_impossible(cases.job(origin, "sisa"))


@pytest.mark.error("unlearn: a task that cannot be forgotten")
@pytest.mark.parametrize(
    ("run", "tasks", "words"),
    [
        ("tiny/joint", ["snow"], "never had 'snow'.*it has noise, rain, haze"),
        ("tiny/joint", ["haze", "haze"], "a task is to be forgotten twice: haze, haze"),
        ("tiny/joint", ["hase"], r"never had 'hase'; it has noise, rain, haze; did you mean haze\?"),
        ("tiny/joint", ["noise", "rain", "haze"], "is all that the run .* has: .* nothing to keep"),
        ("tiny/joined", ["haze"], "no finished run 'tiny/joined'.*tiny/joint/0"),
    ],
)
def test_what_cannot_be_forgotten_is_named(store: Path, run: str, tasks: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        unlearn(run, tasks, FEW, Workspace.at(store, "cpu"))


@pytest.mark.error("unlearn: the only task of a run")
def test_the_only_task_of_a_run_cannot_be_forgotten(out: Path) -> None:
    left = forget(out, "tiny/joint", ["rain", "haze"])
    with pytest.raises(UserError, match=r"noise is all that the run .* has"):
        unlearn(left.done[0].run.folder, ["noise"], FEW, Workspace.at(out, "cpu"))


@pytest.mark.error("unlearn: an unfinished run")
def test_a_run_that_is_not_finished_is_named_with_the_command_that_ends_it(out: Path) -> None:
    folder = find_origin("tiny/joint", out, "cpu").folder
    for file in ("result.json", "weights.safetensors"):
        (folder / file).unlink()
    with pytest.raises(UserError, match=r"tiny/joint/0 is not finished.*cmtl-ir run FILE --strategy joint --seed 0"):
        unlearn("tiny/joint", ["haze"], FEW, Workspace.at(out, "cpu"))


@pytest.mark.error("unlearn: {name} with --no-retain")
@pytest.mark.parametrize("name", sorted({*cases.FEW, "retrain", "lineage", "sisa"} - {"ascent"}))
def test_a_method_that_needs_retain_data_says_so_when_it_may_not_read_them(joint: Origin, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} needs data of the retained tasks \(noise, rain\)"):
        cases.plan(cases.job(joint, name, use_retain=False))


def test_methods_that_need_no_retain_data_are_free_to_go(joint: Origin) -> None:
    for name, fields in (("ascent", {}), ("instance_wise", {"retain": False}), ("salun", {"base": "ascent"})):
        planned = cases.plan(cases.job(joint, name, use_retain=False, **fields))
        assert planned.run.identity["unlearning"]["retained"] == []


def test_no_retain_switches_off_what_can_be_switched_off(joint: Origin) -> None:
    methods = {"published": cases.method("instance_wise"), "masked": cases.method("salun", base="instance_wise")}
    jobs = prepare_jobs([joint], ["haze"], methods, use_retain=False)
    assert [job.method.wants_retain() for job in jobs] == [False, False]
    assert all(job.method.wants_retain() for job in prepare_jobs([joint], ["haze"], methods))


@pytest.mark.error("unlearn: an unknown method, or steps of a method without any")
def test_a_method_that_does_not_exist_and_steps_that_mean_nothing(store: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean finetune"):
        unlearn("tiny/joint", ["haze"], ["finetun"], Workspace.at(store))
    with pytest.raises(UserError, match="--steps: ssd have no number of steps"):
        unlearn("tiny/joint", ["haze"], ["ssd"], Workspace.at(store), steps=5)


@pytest.mark.error("unlearn: a mistake in an experiment file")
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"run": "jiont"}, "unlearning.run: no strategy 'jiont'; did you mean joint"),
        ({"forget": ["hase"]}, "unlearning.forget: no task 'hase'; did you mean haze"),
        ({"methods": {"ssd": {"alhpa": 3}}}, r"unlearning.methods.ssd.alhpa: unknown key; did you mean alpha"),
        ({"methods": {}}, r"unlearning: expected .*methods: \{NAME: \{\}\}"),
    ],
)
def test_mistakes_in_an_experiment_file_are_named_by_their_place(changed: dict[str, Any], words: str) -> None:
    asked = {"run": "joint", "forget": ["haze"], "methods": {"ssd": {}}}
    with pytest.raises(ConfigError, match=words):
        tiny.experiment(unlearning=asked | changed)


# ----------------------------------------------------------------------------------------------------- a reference


def test_without_the_retrained_model_the_report_says_so_and_names_the_command(out: Path) -> None:
    report = report_on(forget(out, "tiny/joint", ["haze"]), budget=0)
    one = report.of("finetune")[0]
    assert report.references == {0: None} and report.gap(one, "haze") is None and one.audit.distance is None
    assert report.way == f"make it: cmtl-ir unlearn tiny/joint --forget haze --method retrain --out {out}"
    from cmtl_ir.analysis.unlearning import forgetting_table

    table = forgetting_table(report)
    row = next(row for row in table.rows if row[0].text == "finetune")
    at = {heading: cell.text for heading, cell in zip(table.headings, row, strict=True)}
    assert at["gap haze"] == at["gap rain"] == at["distance forget"] == NO_REFERENCE
    assert any(report.way in note for note in table.notes)


def test_the_retrained_model_is_found_again_by_its_hash(out: Path) -> None:
    made = forget(out, "tiny/joint", ["haze"], {"retrain": cases.method("retrain")})
    later = report_on(forget(out, "tiny/joint", ["haze"]), budget=0)
    assert later.references == {0: made.done[0].run.hash} and later.labels == ["original", "retrain", "finetune"]
    assert later.gap(later.of("retrain")[0], "haze") == 0.0


def test_a_report_is_of_all_methods_that_answered_the_request_whenever_that_was(out: Path) -> None:
    early = report_on(forget(out, "tiny/joint", ["haze"], {"first": FEW["finetune"]}), budget=0)
    late = report_on(forget(out, "tiny/joint", ["haze"]), budget=0)
    assert early.labels == ["original", "first"] and late.labels == ["original", "first", "finetune"]
    assert late.of("first") == early.of("first") and late.of("first")[0].method == "finetune"


def test_an_earlier_result_does_not_stand_in_for_a_method_that_failed_now(out: Path) -> None:
    made = forget(out, "tiny/joint", ["haze"])
    again = replace(made, done=[], failures={"finetune, seed 0": "NaN at step 1"})
    assert report_on(again, budget=0).labels == ["original"]


def test_a_result_that_was_set_aside_and_not_made_again_is_no_result(out: Path) -> None:
    made = forget(out, "tiny/joint", ["haze"], {"first": cases.method("finetune", steps=3)})
    set_aside(made.done[0].run.folder)
    assert report_on(forget(out, "tiny/joint", ["haze"]), budget=0).labels == ["original", "finetune"]


def test_models_measured_in_other_processes_are_measured_the_same(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = forget(out, "tiny/joint", ["haze"])
    alone = report_on(made, budget=5)
    shutil.rmtree(made.folder / "audits")
    in_two = replace(made, workspace=replace(made.workspace, workers=2))
    monkeypatch.setattr(Auditor, "_measured", lambda *_: pytest.fail("measured here"))
    assert report_on(in_two, budget=5).models == alone.models
    assert len(list((made.folder / "audits").glob("log-*.txt"))) == 2
    assert report_on(in_two, budget=5).models == alone.models, "what is measured stays measured"


# ------------------------------------------------------------------------------------------------------------ chains


@pytest.mark.error("unlearn: a task that is already forgotten")
def test_requests_one_after_the_other_are_a_chain(out: Path) -> None:
    first = forget(out, "tiny/joint", ["haze"]).done[0].run
    made = forget(out, "tiny.joint-without-haze/finetune", ["rain"])
    second, origin = made.done[0].run, find_origin(made.done[0].run.folder, out, "cpu")
    header = json.loads(checkpoint.load_weights(second.folder / "weights.safetensors")[1]["unlearning"])
    assert header["parent"] == first.hash and header["forget"] == ["rain"] and header["forgotten"] == ["haze", "rain"]
    assert header["method"]["name"] == "finetune" and header["origin"] == find_origin("tiny/joint", out, "cpu").hash
    assert origin.kept == ("noise",) and origin.root == find_origin("tiny/joint", out, "cpu").folder
    with pytest.raises(UserError, match="has forgotten 'haze' already; it has noise"):
        forget(out, str(second.folder), ["haze"])
    report = report_on(made, budget=0)
    assert report.before == ("haze",) and report.retain == ("noise",)
    assert any("forgotten before: haze" in note for note in notes(report))


def test_a_chain_s_reference_is_the_run_that_saw_neither(out: Path) -> None:
    first = forget(out, "tiny/joint", ["haze"]).done[0].run
    chained = cases.job(find_origin(first.folder, out, "cpu"), "retrain", ("rain",))
    at_once = cases.job(find_origin("tiny/joint", out, "cpu"), "retrain", ("haze", "rain"))
    assert reference_identity(chained) == reference_identity(at_once) and reference_folder(chained) is None


def test_every_request_s_run_is_a_child_of_the_run_that_it_changes(out: Path) -> None:
    made = forget(out, "tiny/joint", ["haze"])
    second = forget(out, "tiny.joint-without-haze/finetune", ["rain"]).done[0].run
    client = connect(local_uri(out))

    def parent(folder: Path) -> str:
        return client.get_run(Delivery.read(folder).run_id).data.tags[PARENT]

    first = made.done[0].run.folder
    assert parent(second.folder) == Delivery.read(first).run_id
    assert client.get_run(Delivery.read(first).run_id).data.tags["cmtl_ir.forgotten"] == "haze"


def test_an_ensemble_forgets_again_by_deleting_a_second_model_or_as_one_network(out: Path) -> None:
    by_task = {"sisa": cases.method("sisa", shard_by="task")}
    first = forget(out, "tiny/joint", ["haze"], by_task).done[0]
    second = forget(out, "tiny.joint-without-haze/sisa", ["rain"], by_task | FEW)
    parts = [[planned.run.hash for planned in one.runs[:-1]] for one in (first, second.done[0])]
    assert len(parts[0]) == 2 and parts[1] == parts[0][:1]  # noise remains, and is not trained again
    assert [one.job.forgotten for one in second.done] == [("haze", "rain")] * 2
    header = checkpoint.load_weights(second.done[1].run.folder / "weights.safetensors")[1]
    assert json.loads(header["backbone"])["name"] == "ensemble"


# --------------------------------------------------------------------------------------------------- the command


def test_the_command_leaves_a_table_a_figure_words_and_images(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["unlearn", "tiny/joint", "--forget", "haze", "--method", "finetune", "--steps", "2", "--relearn", "5"]
    with pytest.raises(SystemExit) as ended:
        main([*asked, "--out", str(out)])
    told, home = capsys.readouterr().out, out / "tiny.joint-without-haze"
    assert ended.value.code == 0 and NO_REFERENCE in told and "look at:" in told
    sheets = {f"restored-{task}.png" for task in ("haze", "rain", "noise")}
    assert {"table.csv", "table.md", "table.tex", "verdict.md", "overview.png"} | sheets <= {
        file.name for file in home.iterdir()
    }
    assert "finetune" in (home / "verdict.md").read_text()


@pytest.mark.error("unlearn: an incomplete command")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tiny/joint"], "--forget TASK: give the task"),
        (["tiny/joint", "--forget", "snow"], "never had 'snow'"),
        (["tiny/joint", "--forget", "haze", "--set", "seeds=[1]"], "--set changes an experiment file"),
        (["tiny/joint", "--forget", "haze", "--method", "ssd", "--no-retain"], "ssd needs data of the retained tasks"),
        (["quickstart"], "quickstart has no `unlearning:`"),
    ],
)
def test_mistakes_end_with_code_2_and_no_traceback(
    store: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["unlearn", *arguments, "--out", str(store)])
    told = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2 and words in told and "Traceback" not in told
