"""`evaluate --suite` with `--adapt`: adapters as further answers to the lines of suites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.base.errors import UserError
from cmtl_ir.inference import open_sets, suite_files
from cmtl_ir.inference.adapting import read_seed, subject_of
from cmtl_ir.inference.suite_answers import adapted_answers, contents
from cmtl_ir.store.lookup import find_run
from cmtl_ir.suites.line import Line
from cmtl_ir.suites.summary import kinds_of, of_kind, summaries
from cmtl_ir.tasks.config import TaskConfig
from cmtl_ir.tasks.task import TestSample
from cmtl_ir.tracking.store import local_uri, read_runs
from tests import tiny
from tests.adaptation.cases import CPU, SMALL, adapter, image
from tests.adaptation.test_rounds import OWN
from tests.inference.files import checkpoint, command, table

STILL, MOVING, ONLINE = (
    "consistency:steps=0",
    "consistency:steps=1,rate=1e-3,tuned_on=haze",
    "teacher_restore:rate=1e-3",
)
TOLD, TWICE = "redegrade:degradation=given,steps=1,samples=1", f"{OWN}:factor=0.01"
HAZE = TaskConfig.model_validate({"degradation": "haze"})
ADAPT = [STILL, MOVING, ONLINE, TOLD, TWICE]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two lines: `dark` shares a number with noise, `fog` has no trained task."""
    file = tmp_path_factory.mktemp("suite") / "mine.yaml"
    file.write_text("dark: {degradation: low_light, given: noise}\nfog: {degradation: haze}\n")
    return str(file)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def rows(out: Path, suite: str, said: list[str]) -> list[dict[str, Any]]:
    scored = tiny.experiment(**{**SMALL, "data": {"test_limit": 2}})
    return open_sets.evaluate_suites("tiny/one", scored, [suite], adapt=ADAPT, out=out, device="cpu", say=said.append)


def of(rows: list[dict[str, Any]], answer: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["answer"] == answer]


SCORES = ("line", "task", "image", "psnr", "ssim", "psnr_input", "ssim_input")


def test_adapters_are_answers_and_without_steps_the_answer_is_none_bit_for_bit(
    out: Path, suite: str, rows: list[dict[str, Any]]
) -> None:
    scored = tiny.experiment(**{**SMALL, "data": {"test_limit": 2}})
    plain = open_sets.evaluate_suites("tiny/one", scored, [suite], out=out, device="cpu")
    assert [row for row in rows if row["answer"] in ("none", "self_ensemble")] == plain
    none = [[row[key] for key in SCORES] for row in of(rows, "none")]
    assert [[row[key] for key in SCORES] for row in of(rows, STILL)] == none and len(none) == 4
    assert {(row["steps"], row["drift"]) for row in of(rows, STILL)} == {(0, 0.0)}
    assert all(row["steps"] == 1 and row["drift"] > 0 and row["seconds"] > 0 for row in of(rows, MOVING))
    assert "seconds" not in of(rows, "none")[0]


def test_lines_that_an_adapter_must_not_or_cannot_answer_stay_empty(
    rows: list[dict[str, Any]], said: list[str]
) -> None:
    assert {row["task"] for row in of(rows, MOVING)} == {"dark"}, "it was tuned on haze"
    assert sum("was tuned on haze" in text for text in said) == 1
    assert {row["task"] for row in of(rows, TOLD)} == {"dark"}, "no task is given on the other line"
    mixed = TaskConfig.model_validate({"degradation": "composition", "parts": ["haze", "jpeg"]})
    assert contents(Line("", "both", "", "", mixed, noise=15.0)) == {"both", "haze", "jpeg", "gaussian_noise"}


def test_kinds_stand_apart_and_orders_are_averaged(rows: list[dict[str, Any]]) -> None:
    found = summaries(rows)
    assert kinds_of(found) == ["episodic", "online", "two passes"]
    shown = {kind: {one.answer for one in of_kind(found, kind)} for kind in kinds_of(found)}
    controls = {"none", "self_ensemble"}
    assert shown["online"] == controls | {ONLINE} and shown["two passes"] == controls | {TWICE}
    assert shown["episodic"] == controls | {STILL, MOVING, TOLD}
    assert kinds_of([one for one in found if one.answer in controls | {ONLINE}]) == ["online"]
    assert kinds_of([one for one in found if one.answer in controls]) == ["episodic"]
    for one in (one for one in found if one.answer == ONLINE):
        own = [row for row in of(rows, ONLINE) if row["task"] == one.task]
        means = [sum(row["psnr"] for row in own if row["order"] == order) / 2 for order in range(3)]
        assert len(own) == 6 and one.images == 2 and one.spread == pytest.approx((min(means), max(means)))
        assert one.score == pytest.approx(sum(means) / 3)
        assert one.harm == sum(row["psnr"] < row["psnr_input"] for row in own) / 6


def test_episodic_answers_depend_on_neither_the_order_of_images_nor_that_of_lines(out: Path) -> None:
    subject = subject_of(find_run("tiny/one", out), CPU, 128, out, print)
    lines = [Line("s", name, "", "", HAZE, given=name) for name in ("noise", "rain")]
    samples = [TestSample(f"{seed}.png", "", image(seed=seed), image()) for seed in (1, 2)]
    given = [(sample, line) for line in lines for sample in samples]

    def answers(order: list[tuple[TestSample, Line]]) -> list[torch.Tensor]:
        part = adapter("redegrade", rate=1e-3, steps=1, samples=1, degradation="given")
        made: Any = adapted_answers({"one": part}, subject, None, print)["one"]
        return [made(*one).restored for one in order]

    assert all(map(torch.equal, answers(given), answers(given[::-1])[::-1]))


def test_rows_of_other_adapters_are_kept_and_means_go_to_the_store(
    out: Path, suite: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = find_run("tiny/one", out)
    for named in ([ONLINE, TWICE], [STILL]):
        options = ["--out", out, "--device", "cpu", "--csv", tmp_path / "all.csv"]
        asked = [word for one in named for word in ("--adapt", one)]
        assert command("evaluate", "tiny/one", "--suite", suite, *options, *asked) == 0
    assert {row["answer"] for row in table(tmp_path / "all.csv")} == {"none", "self_ensemble", STILL}
    kept = suite_files.kept_rows(run)
    assert {row["answer"] for row in kept} == {"none", "self_ensemble", *ADAPT} - {MOVING, TOLD}
    assert len(kept) == 2 * (3 + 3 + 1)  # lines; episodic answers, orders of the online one, the other one
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("mine, online adapters", "mine, two passes adapters", "mine, episodic adapters", "3 keyed orders"):
        assert words in shown
    curves = read_runs(local_uri(out), "tiny")["curves"]
    points = curves[curves["metric"] == "suite/mine/given/none/gain"]
    (mean,) = {one for name, one in suite_files.means_of(summaries(kept)).items() if name.endswith("given/none/gain")}
    assert points["value"].tolist() == pytest.approx([mean, mean]) and points["step"].diff().tolist()[1] == 1
    assert "suite/mine/given/teacher_restore_rate_1e-3/harm" in set(curves["metric"])
    other = [{**row, "psnr_input": 1.0, "answer": "none"} for row in kept if row["answer"] == "none"]
    suite_files.keep(run, other)
    assert {row["answer"] for row in suite_files.kept_rows(run)} == {"none"}, "the images are others now"


def test_one_function_reads_the_seed(out: Path, tmp_path: Path) -> None:
    assert read_seed(find_run("tiny/one", out), 7) == 0
    assert read_seed(checkpoint(tmp_path), 7) == 7 and read_seed(tmp_path, 7) == 7
    assert read_seed(checkpoint(tmp_path)) == 0


def test_an_adapter_that_does_not_exist_is_refused_before_the_work(out: Path, suite: str) -> None:
    with pytest.raises(UserError, match="unknown adaptation 'consistensy'"):
        open_sets.evaluate_suites("tiny/one", tiny.experiment(**SMALL), [suite], adapt=["consistensy"], out=out)
