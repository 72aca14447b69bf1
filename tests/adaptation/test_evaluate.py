"""`evaluate --adapt` and `restore --adapt` on a finished run whose network has a classifier of the degradation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.adaptation.scoring import summary
from cmtl_ir.base.errors import UserError
from cmtl_ir.inference import restoration
from cmtl_ir.inference.adapted_scores import evaluate_adapted
from cmtl_ir.inference.adapting import subject_of
from cmtl_ir.inference.journal import NAME
from cmtl_ir.measures.metrics.psnr import Psnr
from cmtl_ir.store import lookup
from tests import tiny
from tests.adaptation.cases import SMALL
from tests.adaptation.test_rounds import OWN
from tests.inference.files import CPU, checkpoint, command, photo, table

ADAPT = ["consistency:steps=1,rate=1e-3", "teacher_restore:rate=1e-3", f"{OWN}:factor=0.01"]


@pytest.fixture(scope="module")
def rows(out: Path) -> list[dict[str, Any]]:
    """Rows on a level of noise that the run was trained on, on one that it was not, and on rain."""
    scored = tiny.experiment(**{**SMALL, "tasks": {"haze": None, "noise": {"sigma": [25, 75]}}})
    return evaluate_adapted("tiny/one", scored, ADAPT, out=out, device="cpu")


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["variant"], row["image"]


def test_the_scores_of_none_are_those_of_evaluate_before_and_after(out: Path, rows: list[dict[str, Any]]) -> None:
    scored = tiny.experiment(**{**SMALL, "tasks": {"haze": None, "noise": {"sigma": [25, 75]}}})
    plain = restoration.evaluate("tiny/one", scored, out=out, device="cpu")
    none = [row for row in rows if row["adapter"] == "none"]
    assert [{name: row[name] for name in plain[0]} for row in none] == plain
    assert {row["steps"] for row in none} == {0} and {row["drift"] for row in none} == {0}
    assert {row["as_in_training"] for row in rows if row["variant"] == "sigma75"} == {False}
    assert {row["as_in_training"] for row in rows if row["variant"] != "sigma75"} == {True}


def test_the_summary_is_what_the_rows_say_and_keeps_kinds_apart(rows: list[dict[str, Any]]) -> None:
    lines = summary(rows, Psnr.scale)
    shown = {
        kind: {line.adapter for line in lines if line.kind == kind} for kind in ("episodic", "online", "two passes")
    }
    controls = {"none", "self_ensemble"}
    assert shown == {
        "episodic": controls | {ADAPT[0]}, "online": controls | {ADAPT[1]}, "two passes": controls | {ADAPT[2]},
    }  # fmt: skip
    assert len(lines) == 3 * 3 * 3  # kinds, test settings, columns
    none = {key(row): row["psnr"] for row in rows if row["adapter"] == "none"}
    for line in lines:
        own = [
            row for row in rows
            if (row["adapter"], row["task"], row["as_in_training"]) == (line.adapter, line.task, line.as_in_training)
        ]  # fmt: skip
        gains = torch.tensor([row["psnr"] - none[key(row)] for row in own], dtype=torch.float64)
        inputs = torch.tensor([row["psnr"] - row["psnr_input"] for row in own], dtype=torch.float64)
        assert line.over_none == pytest.approx(gains.mean().item()) and line.harmed == (gains < 0).double().mean()
        assert line.over_input == pytest.approx(inputs.mean().item()) and line.images == len({key(row) for row in own})
        assert (line.drift > 0) == (line.moved > 0) == line.adapter.startswith(("consistency", "teacher_restore"))
    online = [row for row in rows if row["adapter"] == ADAPT[1]]
    assert {row["order"] for row in online} == {0, 1, 2} and len(online) == 3 * len(none)


def test_the_head_of_the_run_classifies_and_its_formulas_and_images_are_those_of_training(out: Path) -> None:
    subject = subject_of(lookup.find_run("tiny/one", out), CPU, 128, out, print)
    network = subject.choose(torch.rand(1, 3, 20, 20), None).network
    found = subject.classify(network, torch.rand(1, 3, 20, 20), 0)
    assert found is not None and list(found) == ["noise", "rain"] and sum(found.values()) == pytest.approx(1, abs=1e-5)
    assert isinstance(network(torch.rand(1, 3, 20, 20), torch.zeros(1).long()), torch.Tensor), "heads rest again"
    assert list(subject.origin.degradations) == ["noise", "rain"] and subject.origin.objective.called == "l1"
    assert subject.origin.degraded("rain", [0, 1]).shape == (2, 3, 16, 16)


def test_an_adapter_is_not_scored_on_what_it_was_tuned_on(out: Path) -> None:
    with pytest.raises(UserError, match=r"was tuned on gaussian_noise, which is scored; .*tasks\.noise=null"):
        evaluate_adapted("tiny/one", tiny.experiment(**SMALL), ["consistency:tuned_on=gaussian_noise"], out=out)


def test_a_prior_is_a_run_of_one_task(out: Path) -> None:
    subject = subject_of(lookup.find_run("tiny/one", out), CPU, 128, out, print)
    with pytest.raises(UserError, match="was trained on noise, rain; a prior is a run of one task"):
        subject.origin.finished("tiny/one")


def test_the_commands_print_tables_and_restore_folders(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = tmp_path / "scores.csv"
    named = ["--adapt", "redegrade:degradation=routed,steps=1,samples=1", "--adapt", "chain:rounds=2"]
    assert command("evaluate", "tiny/one", "--out", out, "--device", "cpu", "--csv", csv, *named) == 0
    said = capsys.readouterr().out
    assert "episodic, settings of the training" in said and "chain:rounds=2" in said and "vs none" in said
    assert {row["adapter"] for row in table(csv)} == {"none", "self_ensemble", *named[1::2]}
    for left, name in enumerate(("a.png", "b.png")):
        photo(tmp_path / "in" / name, left)
    restored = ["restore", "tiny/one", tmp_path / "in"]
    options = ["--out", out, "--device", "cpu", "--tile", 128]
    assert command(*restored, tmp_path / "plain", *options) == 0
    assert command(*restored, tmp_path / "none", *options, "--adapt", "sure:steps=0") == 0
    assert command(*restored, tmp_path / "stream", *options, "--adapt", "teacher_restore:rate=0.05") == 0
    files = {
        way: [(tmp_path / way / name).read_bytes() for name in ("a.png", "b.png")]
        for way in ("plain", "none", "stream")
    }
    assert files["plain"] == files["none"] and files["plain"] != files["stream"]
    (tmp_path / "stream" / "a.png").unlink()  # both are restored again, because the weights go on
    assert command(*restored, tmp_path / "stream", *options, "--adapt", "teacher_restore:rate=0.05") == 0
    assert [(tmp_path / "stream" / name).read_bytes() for name in ("a.png", "b.png")] == files["stream"]
    assert command(*restored, tmp_path / "stream", *options, "--adapt", "teacher_restore:rate=0.01") == 2
    assert len((tmp_path / "stream" / NAME).read_text().splitlines()) == 4


def test_a_checkpoint_is_adapted_without_what_only_a_run_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used, source = checkpoint(tmp_path / "weights"), photo(tmp_path / "a.png")
    restoration.restore(used, source, tmp_path / "b.png", device="cpu", adapt="consistency:steps=1,rate=1e-3")
    assert (tmp_path / "b.png").is_file()
    with pytest.raises(UserError, match=r"training images are those of a finished run"):
        restoration.restore(used, source, tmp_path / "c.png", device="cpu", adapt="norm_sam")
    with pytest.raises(UserError, match=r"no degradation formula"):
        restoration.restore(used, source, tmp_path / "c.png", device="cpu", adapt="redegrade:fisher=0")
